// A cache much larger than what the hand-off may hold passes through it.
#include <fstream>
#include <sstream>
#include <thread>

#include <catch2/catch.hpp>

#include "kvferry/handoff/session.hpp"
#include "kvferry/transport/loopback.hpp"

#include "support.hpp"

using namespace kvferry;
using namespace kvferry::testing;

namespace {

constexpr std::uint32_t kTokens = 4096;

KvGeometry large_geometry() {
  KvGeometry g = handoff_geometry();
  g.layers = 16;
  g.kv_heads = 8;
  g.head_dim = 128;  // 2 KiB a row, 256 MiB in all
  return g;
}

// Peak resident memory of this process in bytes.
std::size_t peak_memory() {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);) {
    if (line.rfind("VmHWM:", 0) == 0) return std::stoul(line.substr(6)) * 1024;
  }
  return 0;
}

class ZeroSource : public KvSource {
 public:
  const KvGeometry& geometry() const override { return geometry_; }
  Status read(const KvRange&, MutableBytes out) const override {
    std::fill(out.begin(), out.end(), std::uint8_t{0});
    return {};
  }

 private:
  KvGeometry geometry_ = large_geometry();
};

// Takes rows slowly enough that everything piles up in front of it, and forgets them.
class Sieve : public KvSink, public HandoffHandler {
 public:
  const KvGeometry& geometry() const override { return geometry_; }
  Status begin(const KvImportPlan&) override { return {}; }
  Status write(const KvRange&, Bytes rows) override {
    bytes += rows.size();
    if (bytes % (8u << 20) == 0) std::this_thread::sleep_for(std::chrono::milliseconds(10));
    return {};
  }
  Result<KvCommit> commit() override { return KvCommit{1, kTokens}; }
  void abort() noexcept override {}
  Result<HandoffAcceptance> on_offer(const wire::Offer&) override {
    HandoffAcceptance acceptance;
    acceptance.sink = this;
    return acceptance;
  }
  Status on_first_token(const wire::FirstToken&) override { return {}; }

  std::uint64_t bytes = 0;

 private:
  KvGeometry geometry_ = large_geometry();
};

}  // namespace

TEST_CASE("a large cache passes in bounded memory at both ends") {
  const auto deadline = Deadline::after(std::chrono::seconds(60));
  ChannelPair channels = make_loopback();
  Connection sender(*channels.first);
  Connection receiver(*channels.second);
  Sieve sieve;
  ModelIdentity identity = handoff_identity();
  wire::Offer offer = make_offer(large_geometry(), kTokens);
  offer.profile = static_cast<std::uint8_t>(Profile::kRaw);
  const std::size_t before = peak_memory();
  REQUIRE(before > 0);

  Result<HandoffReceipt> received(ErrorCode::kInternal, "did not run");
  std::thread receiving([&] {
    const Status greeted = receiver.greet(wire::Role::kDecode, deadline);
    auto frame = receiver.receive(deadline);
    if (greeted.ok() && frame.ok()) received = receive_handoff(receiver, *frame, identity, sieve);
  });
  REQUIRE(sender.greet(wire::Role::kPrefill, deadline).ok());
  const ZeroSource source;
  auto session = SendSession::start(sender, source, offer).value();
  for (std::uint32_t layer = 0; layer < 16; ++layer)
    REQUIRE(session->publish(layer, 0, kTokens).ok());
  const auto sent = session->finish();
  receiving.join();
  REQUIRE(sent.ok());
  REQUIRE(received.ok());
  CHECK(sieve.bytes == std::uint64_t{16} * 2 * kTokens * 2048);

  // 16 MiB for each end.
  const std::size_t growth = peak_memory() - before;
  INFO("peak memory grew by " << growth / 1024 << " KiB for " << sieve.bytes / 1024 << " KiB");
  CHECK(growth < 32u << 20);
}
