// An engine of your own hands its KV cache over: two engines whose KV memory kvferry has never
// heard of, joined by TCP. Needs only kvferry::core and kvferry::net.
#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "kvferry/cache/strided.hpp"
#include "kvferry/core/half.hpp"
#include "kvferry/handoff/session.hpp"
#include "kvferry/transport/tcp.hpp"

namespace {

using namespace kvferry;

constexpr std::uint32_t kLayers = 12;
constexpr std::uint32_t kHeads = 4;     // KV heads
constexpr std::uint32_t kHeadDim = 64;  // values per head
constexpr std::uint32_t kCapacity = 1024;

// The imaginary engine. All that matters here is where its rows lie.
struct Engine {
  // [token, layer, K and V, head, head_dim] F16
  std::vector<Half> kv =
      std::vector<Half>(std::size_t{kCapacity} * kLayers * 2 * kHeads * kHeadDim);
  std::vector<TokenId> tokens;  // that the cache holds

  // Computes K and V of one layer of tokens [begin, end); here, it makes them up.
  void compute(std::uint32_t layer, std::uint32_t begin, std::uint32_t end) {
    constexpr std::size_t kLayerValues = std::size_t{2} * kHeads * kHeadDim;
    for (std::uint32_t t = begin; t < end; ++t) {
      for (std::size_t i = 0; i < kLayerValues; ++i) {
        std::uint32_t noise = (t * kLayers + layer) * 2654435761u + static_cast<std::uint32_t>(i);
        noise = (noise ^ noise >> 15) * 2246822519u;
        kv[(std::size_t{t} * kLayers + layer) * kLayerValues + i] =
            to_half(static_cast<float>(noise >> 20) / 1024.0f - 2.0f);
      }
    }
  }
};

// 1. Describe the model's cache...
KvGeometry geometry() {
  KvGeometry g;
  g.layers = kLayers;
  g.kv_heads = kHeads;
  g.head_dim = kHeadDim;
  g.type = ElementType::kF16;
  g.rope.inverse_frequency.assign(kHeadDim / 2, 0.01f);  // your model's, one for each pair
  return g;
}

// ...and the model itself: both ends compare all fields before anything is sent.
ModelIdentity identity() {
  ModelIdentity id;
  id.architecture = "imaginary";  // both ends call it the same: "llama", "gemma3", …
  id.layers = kLayers;
  id.heads = id.kv_heads = kHeads;
  id.head_dim = kHeadDim;
  id.hidden = kHeads * kHeadDim;
  id.ffn = 1024;
  id.vocab = 32000;
  id.norm_epsilon = 1e-5f;
  id.rope = geometry().rope;
  id.tokenizer = 1;  // hash of your vocabulary
  id.norms = 2;      // hash of your norm weights
  return id;
}

// 2. Say where the rows lie: the distance in bytes between neighbours along each axis.
StridedMemory memory_of(Engine& engine) {
  constexpr std::ptrdiff_t kValue = sizeof(Half);
  constexpr std::ptrdiff_t kHead = kHeadDim * kValue;
  constexpr std::ptrdiff_t kPlane = kHeads * kHead;
  constexpr std::ptrdiff_t kLayer = 2 * kPlane;
  KvStrides strides;
  strides.token = kLayers * kLayer;
  strides.head = kHead;
  strides.value = kValue;
  auto* const base = reinterpret_cast<std::uint8_t*>(engine.kv.data());
  return StridedMemory::contiguous(geometry(), kCapacity, base, kLayer, kPlane, strides);
}

Deadline soon() {
  return Deadline::after(std::chrono::seconds(10));
}

// 3. The prefill side: offer, publish each layer as soon as it is computed, finish.
Result<HandoffReceipt> prefill(Engine& engine, const std::vector<TokenId>& prompt,
                               const std::string& decode_address) {
  KVFERRY_ASSIGN(const std::unique_ptr<Channel> channel, connect_tcp(decode_address, soon()));
  Connection connection(*channel);
  KVFERRY_TRY(connection.greet(wire::Role::kPrefill, soon()));

  const auto count = static_cast<std::uint32_t>(prompt.size());
  wire::Offer offer;
  offer.identity = identity();
  offer.layers = kLayers;
  offer.kv_heads = kHeads;
  offer.head_dim = kHeadDim;
  offer.rope = geometry().rope;
  offer.profile = static_cast<std::uint8_t>(Profile::kLossless);
  offer.tokens = prompt;
  offer.coverage = {{1, 0, kLayers, 0, count}};  // source 1 ships everything

  const StridedSource source(memory_of(engine));
  KVFERRY_ASSIGN(const auto session, SendSession::start(connection, source, std::move(offer)));
  constexpr std::uint32_t kChunk = 256;
  for (std::uint32_t begin = 0; begin < count; begin += kChunk) {
    const std::uint32_t end = std::min(begin + kChunk, count);
    for (std::uint32_t layer = 0; layer < kLayers; ++layer) {
      engine.compute(layer, begin, end);
      KVFERRY_TRY(session->publish(layer, begin, end));  // encodes and sends behind our back
    }
  }
  engine.tokens = prompt;
  return session->finish();
}

// 4. The decode side: take an offer into the engine's memory, which becomes valid in one step.
class IntoEngine : public HandoffHandler {
 public:
  explicit IntoEngine(Engine& engine)
      : sink_(memory_of(engine), [&engine](const KvImportPlan& plan) -> Result<KvCommit> {
          engine.tokens = plan.tokens;
          return KvCommit{1, plan.end};
        }) {}
  Result<HandoffAcceptance> on_offer(const wire::Offer&) override {
    HandoffAcceptance acceptance;  // an empty sequence: held_prefix and base_length are 0
    acceptance.sink = &sink_;
    return acceptance;
  }
  Status on_first_token(const wire::FirstToken&) override { return {}; }  // ours sends none

 private:
  StridedSink sink_;
};

Result<HandoffReceipt> decode(Engine& engine, Listener& listener) {
  KVFERRY_ASSIGN(const std::unique_ptr<Channel> channel, listener.accept(soon()));
  Connection connection(*channel);
  KVFERRY_TRY(connection.greet(wire::Role::kDecode, soon()));
  KVFERRY_ASSIGN(const wire::Frame offer, connection.receive(soon()));
  IntoEngine handler(engine);
  return receive_handoff(connection, offer, identity(), handler);
}

int fail(const char* who, const Error& error) {
  std::fprintf(stderr, "error: %s: %s\n", who, error.message.c_str());
  return 1;
}

}  // namespace

int main() {
  Engine here;
  Engine there;
  const auto listener = listen_tcp("tcp://127.0.0.1:0", soon());
  if (!listener.ok()) return fail("listen", listener.error());

  Result<HandoffReceipt> received(ErrorCode::kInternal, "did not run");
  std::thread decoder([&] { received = decode(there, **listener); });
  const auto sent = prefill(here, std::vector<TokenId>(1000, 7), (*listener)->address());
  decoder.join();
  if (!sent.ok()) return fail("prefill", sent.error());
  if (!received.ok()) return fail("decode", received.error());

  if (here.tokens != there.tokens ||
      std::memcmp(here.kv.data(), there.kv.data(), here.kv.size() * sizeof(Half)) != 0) {
    return fail("check", Error(ErrorCode::kInternal, "the caches differ"));
  }
  const HandoffReport& report = sent->report;
  std::printf("%zu tokens handed over: %.1f MB as %.1f MB in %llu blocks, %.0f ms\n",
              there.tokens.size(), static_cast<double>(report.raw_bytes) / 1e6,
              static_cast<double>(report.wire_bytes) / 1e6,
              static_cast<unsigned long long>(report.blocks), report.total_seconds * 1e3);
  return 0;
}
