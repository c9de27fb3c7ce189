// Sessions with threads over TCP connections that break.
#include <algorithm>
#include <atomic>
#include <random>
#include <thread>

#include <catch2/catch.hpp>

#include "kvferry/transport/tcp.hpp"

#include "support.hpp"

using namespace kvferry;
using namespace kvferry::testing;
using std::chrono::seconds;

namespace {

const KvGeometry kGeometry = handoff_geometry();
const KnownSource kSource(kGeometry);
constexpr std::uint32_t kTokens = 400;

Deadline late() {
  return Deadline::after(seconds(20));
}

// Sends so many bytes, wherever that cuts a frame, and closes.
class CutChannel final : public Channel {
 public:
  CutChannel(std::unique_ptr<Channel> inner, std::uint64_t bytes)
      : inner_(std::move(inner)), left_(bytes) {}

  Status send(Span<const Bytes> buffers, Deadline deadline) override {
    for (const Bytes bytes : buffers) {
      const auto count = static_cast<std::size_t>(std::min<std::uint64_t>(left_, bytes.size()));
      KVFERRY_TRY(send_all(*inner_, bytes.first(count), deadline));
      left_ -= count;
      if (left_ == 0) {
        inner_->close();
        return Error(ErrorCode::kClosed, "the connection was cut");
      }
    }
    return {};
  }
  Result<std::size_t> receive(MutableBytes buffer, Deadline deadline) override {
    return inner_->receive(buffer, deadline);
  }
  void close() noexcept override { inner_->close(); }
  std::string peer() const override { return inner_->peer(); }

 private:
  std::unique_ptr<Channel> inner_;
  std::uint64_t left_;
};

struct Outcome {
  Result<HandoffReceipt> sent = Error(ErrorCode::kInternal, "did not run");
  Result<HandoffReceipt> received = Error(ErrorCode::kInternal, "did not run");
  std::uint64_t bytes_sent = 0;
  std::uint64_t bytes_back = 0;
};

Result<HandoffReceipt> send_cache(Connection& connection) {
  KVFERRY_TRY(connection.greet(wire::Role::kPrefill, late()));
  SendOptions options;
  options.encode_threads = 2;
  KVFERRY_ASSIGN(auto session,
                 SendSession::start(connection, kSource, make_offer(kGeometry, kTokens), options));
  for (std::uint32_t layer = 0; layer < kGeometry.layers; ++layer) {
    for (std::uint32_t at = 0; at < kTokens; at += 50)
      KVFERRY_TRY(session->publish(layer, at, at + 50));
  }
  return session->finish();
}

Result<HandoffReceipt> receive_cache(Connection& connection, HandoffHandler& handler) {
  KVFERRY_TRY(connection.greet(wire::Role::kDecode, late()));
  KVFERRY_ASSIGN(const wire::Frame offer, connection.receive(late()));
  ReceiveOptions options;
  options.decode_threads = 2;
  options.credit = 20000;
  return receive_handoff(connection, offer, handoff_identity(), handler, options);
}

// One hand-off over TCP; either end's connection breaks after so many bytes that it sent.
Outcome hand_over(const std::shared_ptr<KvSequence>& sequence, std::uint64_t sender_bytes,
                  std::uint64_t receiver_bytes) {
  Outcome outcome;
  const auto listener = listen_tcp("tcp://127.0.0.1:0", late()).value();
  CutChannel there(connect_tcp(listener->address(), late()).value(), sender_bytes);
  CutChannel here(listener->accept(late()).value(), receiver_bytes);
  SequenceHandler handler(sequence);
  handler.terms.generation = sequence->generation();
  std::thread receiving([&] {
    Connection connection(here);
    outcome.received = receive_cache(connection, handler);
    outcome.bytes_back = connection.bytes_sent();
    here.close();
  });
  {
    Connection connection(there);
    outcome.sent = send_cache(connection);
    outcome.bytes_sent = connection.bytes_sent();
  }
  there.close();
  receiving.join();
  return outcome;
}

}  // namespace

TEST_CASE("wherever the connection is cut, both ends say so and the receiver can go on") {
  constexpr std::uint64_t kWhole = 1u << 30;
  std::uint64_t sent = 0;
  std::uint64_t back = 0;
  {
    const auto sequence = empty_sequence(kGeometry);
    const Outcome outcome = hand_over(sequence, kWhole, kWhole);
    REQUIRE(outcome.sent.ok());
    REQUIRE(outcome.received.ok());
    CHECK(holds_known_rows(*sequence, 0, kTokens));
    sent = outcome.bytes_sent;
    back = outcome.bytes_back;
  }
  std::mt19937 random(1);
  for (int round = 0; round < 80; ++round) {
    const bool cut_sender = round % 2 == 0;
    const std::uint64_t at = 1 + random() % (cut_sender ? sent - 1 : back - 1);
    INFO("round " << round << ": " << (cut_sender ? "sender" : "receiver") << " cut at byte "
                  << at);
    const auto sequence = empty_sequence(kGeometry);
    const Outcome outcome =
        cut_sender ? hand_over(sequence, at, kWhole) : hand_over(sequence, kWhole, at);
    if (outcome.sent.ok()) {  // it took fewer credits than the first time, so nothing was cut
      REQUIRE_FALSE(cut_sender);
      REQUIRE(outcome.received.ok());
      continue;
    }
    CHECK_FALSE(outcome.sent.error().message.empty());
    if (outcome.received.ok()) {  // only its COMMITTED was lost
      CHECK(holds_known_rows(*sequence, 0, kTokens));
      continue;
    }
    CHECK_FALSE(outcome.received.error().message.empty());
    CHECK(sequence->length() == 0);
    CHECK(sequence->pool()->free_blocks() == sequence->pool()->capacity_blocks());
    if (round % 8 == 0) CHECK(hand_over(sequence, kWhole, kWhole).received.ok());
  }
}
