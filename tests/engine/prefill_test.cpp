#include "kvferry/engine/prefill.hpp"

#include <cmath>
#include <string>
#include <tuple>
#include <vector>

#include <catch2/catch.hpp>

#include "bit_identity.hpp"
#include "model_run.hpp"

namespace kvferry_test {
namespace {

using namespace kvferry;

ModelFile tiny(const std::string& name) {
  return ModelFile::open(golden("tiny/" + name + ".gguf")).value();
}

TEMPLATE_TEST_CASE("every layer is announced once, chunk by chunk, when its rows are final", "",
                   path::Reference, path::Cpu) {
  const ModelFile file = tiny("tiny-qwen2-q8_0");
  ModelRun<TestType> run(file, 2);
  const auto tokens = random_tokens(40, run.config().vocab, 3);
  const auto whole = run.sequence();
  run.prefill_logits(tokens, 1, 40, *whole);

  const auto sequence = run.sequence();
  const KvGeometry& g = sequence->geometry();
  std::vector<std::tuple<std::uint32_t, std::uint32_t, std::uint32_t>> announced, expected;
  PrefillRequest request;
  request.tokens = tokens;
  request.chunk_tokens = 16;
  request.on_layer = [&](const LayerReady& ready) -> Status {
    announced.emplace_back(ready.begin, ready.end, ready.layer);
    KVFERRY_TRY(ready.fence.wait());
    for (const Plane plane : {Plane::kKey, Plane::kValue}) {
      const KvRange range{ready.layer, plane, ready.begin, ready.end};
      std::vector<std::uint8_t> now(range.tokens() * g.row_bytes()), in_the_end = now;
      KVFERRY_TRY(sequence->read(range, sequence->generation(), now));
      KVFERRY_TRY(whole->read(range, whole->generation(), in_the_end));
      CHECK((now == in_the_end));
    }
    return Status();
  };
  run.prefill(request, *sequence).value();
  for (const std::uint32_t begin : {0u, 16u, 32u}) {
    for (std::uint32_t l = 0; l < g.layers; ++l)
      expected.emplace_back(begin, std::min(begin + 16u, 40u), l);
  }
  CHECK((announced == expected));
  CHECK((sequence->tokens() == tokens));
}

// What each token gets of the attention, [layers, tokens].
template <typename Path>
std::vector<float> attention_of(const ModelFile& file, std::size_t threads,
                                const std::vector<TokenId>& tokens, std::uint32_t chunk,
                                ElementType type) {
  ModelRun<Path> run(file, threads, {}, type);
  std::vector<float> attention(file.config().layers * tokens.size(), -1.0f);
  PrefillRequest request;
  request.tokens = tokens;
  request.chunk_tokens = chunk;
  request.attention = attention;
  std::size_t announced = 0;
  request.on_layer = [&](const LayerReady& ready) -> Status {
    KVFERRY_TRY(ready.fence.wait());
    CHECK(ready.attention.data() == attention.data() + ready.layer * tokens.size() + ready.begin);
    CHECK(ready.attention.size() == ready.end - ready.begin);
    for (const float a : ready.attention) CHECK((a > 0.0f && a <= 1.0f));
    announced += ready.attention.size();
    return Status();
  };
  const auto sequence = run.sequence();
  run.prefill(request, *sequence).value();
  CHECK(announced == attention.size());
  return attention;
}

TEST_CASE("the attention that tokens get is that of the reference, for any number of threads") {
  for (const char* name : {"tiny-llama-yarn-f16", "tiny-qwen3-f16"}) {
    CAPTURE(name);
    const ModelFile file = tiny(name);
    const auto tokens = random_tokens(200, file.config().vocab, 11);
    for (const std::uint32_t chunk : {200u, 90u}) {
      CAPTURE(chunk);
      const auto expected =
          attention_of<path::Reference>(file, 1, tokens, chunk, ElementType::kF32);
      CHECK(same_bits(expected,
                      attention_of<path::Reference>(file, 3, tokens, chunk, ElementType::kF32)));
      const auto got = attention_of<path::Cpu>(file, 1, tokens, chunk, ElementType::kF32);
      CHECK(same_bits(got, attention_of<path::Cpu>(file, 3, tokens, chunk, ElementType::kF32)));
      double worst = 0.0;
      for (std::size_t i = 0; i < expected.size(); ++i) {
        const double error =
            std::fabs(static_cast<double>(got[i] - expected[i])) / static_cast<double>(expected[i]);
        if (!(error <= worst)) worst = error;
      }
      CHECK(worst <= 0.02);  // the paths' products differ
    }
  }
}

TEST_CASE("measuring attention changes neither cache nor logits") {
  const ModelFile file = tiny("tiny-qwen2-q8_0");
  ModelRun<path::Cpu> run(file, 2);
  const auto tokens = random_tokens(150, run.config().vocab, 12);
  const auto plain = run.sequence();
  const std::vector<float> expected = run.prefill_logits(tokens, 2, 64, *plain);
  std::vector<float> logits(expected.size()), attention(run.config().layers * tokens.size());
  PrefillRequest request;
  request.tokens = tokens;
  request.chunk_tokens = 64;
  request.logits = logits;
  request.attention = attention;
  const auto measured = run.sequence();
  run.prefill(request, *measured).value();
  CHECK(same_bits(logits, expected));
  CHECK((cache_bytes(*measured) == cache_bytes(*plain)));
}

TEMPLATE_TEST_CASE("logits of the last rows are those of the prompts that end there", "",
                   path::Reference, path::Cpu) {
  const ModelFile file = tiny("tiny-llama-256-q4_0");
  ModelRun<TestType> run(file, 1);
  const std::size_t vocab = run.config().vocab;
  const auto tokens = random_tokens(37, run.config().vocab, 4);
  const auto sequence = run.sequence();
  const std::vector<float> last = run.prefill_logits(tokens, 20, 8, *sequence);
  for (std::size_t r = 0; r < 20; ++r) {
    CAPTURE(r);
    const std::vector<TokenId> prefix(tokens.begin(), tokens.begin() + 18 + static_cast<long>(r));
    const auto other = run.sequence();
    const std::vector<float> logits = run.prefill_logits(prefix, 1, 256, *other);
    CHECK(std::memcmp(logits.data(), last.data() + r * vocab, vocab * sizeof(float)) == 0);
  }
}

TEMPLATE_TEST_CASE("a model in two halves gives what the whole gives", "", path::Reference,
                   path::Cpu) {
  const ModelFile file = tiny("tiny-qwen3-f16");
  const std::uint32_t layers = file.config().layers;
  REQUIRE(layers >= 2);
  ModelRun<TestType> whole(file, 2);
  ModelRun<TestType> front(file, 2, {0, 1});
  ModelRun<TestType> back(file, 2, {1, LayerRange::kLast});
  const auto tokens = random_tokens(50, file.config().vocab, 5);

  const auto sequence = whole.sequence();
  const std::vector<float> expected = whole.prefill_logits(tokens, 3, 64, *sequence);
  std::vector<std::uint8_t> expected_cache = cache_bytes(*sequence);

  std::vector<float> hidden(tokens.size() * file.config().hidden);
  PrefillRequest request;
  request.tokens = tokens;
  request.chunk_tokens = 16;
  request.hidden_out = hidden;
  const auto front_sequence = front.sequence();
  front.prefill(request, *front_sequence).value();

  std::vector<float> logits(expected.size());
  PrefillRequest second;
  second.tokens = tokens;
  second.chunk_tokens = 24;
  second.hidden_in = hidden;
  second.logits = logits;
  const auto back_sequence = back.sequence();
  back.prefill(second, *back_sequence).value();

  CHECK(same_bits(logits, expected));
  std::vector<std::uint8_t> cache = cache_bytes(*front_sequence);
  const std::vector<std::uint8_t> rest = cache_bytes(*back_sequence);
  cache.insert(cache.end(), rest.begin(), rest.end());
  CHECK((cache == expected_cache));
  CHECK(back_sequence->geometry().first_layer == 1);
}

TEST_CASE("an error leaves the sequence as it was") {
  const ModelFile file = tiny("tiny-qwen2-q8_0");
  ModelRun<path::Cpu> run(file, 1);
  const auto tokens = random_tokens(40, run.config().vocab, 6);
  const auto sequence = run.sequence();
  run.prefill_logits(random_tokens(10, run.config().vocab, 7), 1, 64, *sequence);
  const std::vector<std::uint8_t> before = cache_bytes(*sequence);
  const std::uint32_t free_before = run.pool()->free_blocks();
  PrefillRequest request;
  request.tokens = tokens;
  const auto check = [&](ErrorCode code, const std::string& part) {
    const Status status = run.prefill(request, *sequence);
    REQUIRE(!status.ok());
    CAPTURE(status.error().message);
    CHECK(status.error().code == code);
    CHECK(status.error().message.find(part) != std::string::npos);
    CHECK(sequence->length() == 10);
    CHECK((cache_bytes(*sequence) == before));
    CHECK(run.pool()->free_blocks() == free_before);
  };

  SECTION("cancelled in the second chunk") {
    request.chunk_tokens = 16;
    request.on_layer = [](const LayerReady& ready) {
      if (ready.begin == 26 && ready.layer == 1)
        return Status(ErrorCode::kCancelled, "asked to stop");
      return Status();
    };
    check(ErrorCode::kCancelled, "asked to stop");
  }
  SECTION("no tokens") {
    request.tokens = {};
    check(ErrorCode::kInvalidArgument, "no tokens");
  }
  SECTION("an id outside of the vocabulary") {
    std::vector<TokenId> bad = tokens;
    bad[5] = run.config().vocab;
    request.tokens = bad;
    check(ErrorCode::kInvalidArgument, "token 5: id " + std::to_string(run.config().vocab));
  }
  SECTION("more than the context") {
    const std::vector<TokenId> many(run.config().context_length - 9, 1);
    request.tokens = many;
    check(ErrorCode::kResourceExhausted, "context: 10 tokens and");
  }
  SECTION("more than the pool") {
    const std::vector<KvBlock> taken = run.pool()->allocate(free_before).value();
    const Status status = run.prefill(request, *sequence);
    REQUIRE(!status.ok());
    CHECK(status.error().code == ErrorCode::kResourceExhausted);
    CHECK(sequence->length() == 10);
    CHECK((cache_bytes(*sequence) == before));
  }
  SECTION("room for a part of a row of logits") {
    std::vector<float> logits(run.config().vocab + 1);
    request.logits = logits;
    check(ErrorCode::kInvalidArgument, "logits");
  }
  SECTION("room for the attention of other tokens") {
    std::vector<float> attention(run.config().layers * tokens.size() - 1);
    request.attention = attention;
    check(ErrorCode::kInvalidArgument, "attention values");
  }
  SECTION("hidden states where none are taken") {
    const std::vector<float> hidden(tokens.size() * run.config().hidden);
    request.hidden_in = hidden;
    check(ErrorCode::kInvalidArgument, "hidden states");
  }
}

TEST_CASE("a cache of another model or type is refused by name") {
  const ModelFile file = tiny("tiny-qwen2-q8_0");
  ModelRun<path::Reference> run(file, 1);
  const auto refused = [&](const KvGeometry& g) {
    const auto pool = KvPool::create(g, 4).value();
    PrefillRequest request;
    const std::vector<TokenId> tokens = {1};
    request.tokens = tokens;
    const Status status = run.prefill(request, *KvSequence::create(pool));
    REQUIRE(!status.ok());
    return status.error();
  };
  const KvGeometry own = geometry_of(file.config(), ElementType::kF32);
  KvGeometry g = own;
  g.type = ElementType::kF16;
  CHECK(refused(g).code == ErrorCode::kUnsupported);
  CHECK(refused(g).message.find("f16") != std::string::npos);
  g = own;
  g.head_dim += 2;
  CHECK(refused(g).message.find("heads of") != std::string::npos);
  g = own;
  g.layers -= 1;
  CHECK(refused(g).message.find("layers") != std::string::npos);
  g = own;
  g.rope.inverse_frequency[0] *= 2;
  CHECK(refused(g).message.find("RoPE") != std::string::npos);
}

TEST_CASE("layer ranges that a model has not are refused") {
  const ModelFile file = tiny("tiny-llama-256-q8_0");
  ThreadPool threads(1);
  const std::uint32_t layers = file.config().layers;
  for (const LayerRange range : {LayerRange{0, layers + 1}, LayerRange{1, 1}, LayerRange{layers}}) {
    CHECK(Model<path::Cpu>::load(file, threads, range).error().code == ErrorCode::kInvalidArgument);
  }
}

}  // namespace
}  // namespace kvferry_test
