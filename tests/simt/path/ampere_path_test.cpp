// path::AmpereInt8 on the emulated device, through the engine.
#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include <catch2/catch.hpp>

#include "kvferry/quality/divergence.hpp"

#include "ampere_run.hpp"
#include "simt/device_memory.hpp"

using namespace kvferry;
using namespace kvferry_test;

namespace {

ModelFile tiny(const std::string& name) {
  return ModelFile::open(std::string(KVFERRY_GOLDEN_DIR) + "/tiny/tiny-" + name + ".gguf").value();
}

std::vector<TokenId> some_tokens(std::size_t count, std::uint32_t vocab) {
  std::vector<TokenId> tokens;
  for (std::size_t i = 0; i < count; ++i)
    tokens.push_back(static_cast<TokenId>((i * 7919 + i * i * 31 + 5) % vocab));
  return tokens;
}

}  // namespace

TEST_CASE("every family of models agrees with the reference path") {
  for (const char* name : {"llama-256-q4_0", "llama-spm-f16", "llama-yarn-f16",
                           "llama3-ropefreqs-bf16", "qwen2-q8_0", "qwen3-f16"}) {
    CAPTURE(name);
    const ModelFile file = tiny(name);
    ModelRun<path::Reference> reference(file, 1);
    AmpereRun ampere(file);
    const std::vector<TokenId> tokens = some_tokens(70, file.config().vocab);
    const std::uint32_t vocab = file.config().vocab;
    const auto expected_sequence = reference.sequence(), sequence = ampere.sequence();
    std::vector<float> expected_attention, attention;
    const auto expected =
        all_logits(reference, tokens, 70, *expected_sequence, &expected_attention);
    const auto logits = all_logits(ampere, tokens, 70, *sequence, &attention);
    double sum = 0.0, worst = 0.0;
    for (std::size_t r = 0; r < tokens.size(); ++r) {
      const double kl = kl_divergence(Span<const float>(expected).subspan(r * vocab, vocab),
                                      Span<const float>(logits).subspan(r * vocab, vocab));
      REQUIRE(std::isfinite(kl));
      sum += kl;
      worst = std::max(worst, kl);
    }
    const double mean = sum / static_cast<double>(tokens.size());
    std::printf("%s: mean KL %.2g, largest %.2g\n", name, mean, worst);
    CHECK(mean < 0.01);
    for (std::size_t i = 0; i < attention.size(); ++i) {
      const float error = std::fabs(attention[i] - expected_attention[i]);
      REQUIRE(error <= 0.02f + 0.1f * expected_attention[i]);
    }
  }
}

TEST_CASE("a row has the same bits in any chunk and batch, and in any schedule") {
  for (const char* name : {"qwen2-q8_0", "qwen3-f16"}) {
    CAPTURE(name);
    const ModelFile file = tiny(name);
    AmpereRun run(file);
    const std::uint32_t vocab = file.config().vocab;
    const std::vector<TokenId> tokens = some_tokens(100, vocab);
    const auto whole = run.sequence();
    const std::vector<float> expected = all_logits(run, tokens, 100, *whole);
    const std::vector<std::uint8_t> cache = cache_bytes(*whole);
    for (const std::uint32_t chunk : {1u, 7u, 33u, 64u}) {
      CAPTURE(chunk);
      simt::settings().seed = chunk;
      const auto sequence = run.sequence();
      CHECK(all_logits(run, tokens, chunk, *sequence) == expected);
      CHECK(cache_bytes(*sequence) == cache);
    }

    // Two sequences in one step, at unlike positions.
    const auto a = whole->fork(50).value();
    const auto b = whole->fork(90).value();
    std::vector<float> logits(2 * vocab);
    REQUIRE(run.step({{a.get(), tokens[50]}, {b.get(), tokens[90]}}, logits).ok());
    CHECK(std::equal(logits.begin(), logits.begin() + vocab, expected.begin() + 50 * vocab));
    CHECK(std::equal(logits.begin() + vocab, logits.end(), expected.begin() + 90 * vocab));
  }
}

TEST_CASE("what the path cannot do is named before any launch") {
  const ModelFile file = tiny("qwen2-q8_0");
  ThreadPool threads(1);
  AmpereRun run(file);
  simt::take_statistics();

  // A cache on the host, or of another type.
  const KvGeometry geometry = run.sequence()->geometry();
  KvGeometry floats = geometry;
  floats.type = ElementType::kF32;
  const auto on_host = KvPool::create(geometry, 4).value();
  const auto of_floats = KvPool::create(floats, 4, Ampere::cache_memory()).value();
  for (const auto& pool : {on_host, of_floats}) {
    const auto sequence = KvSequence::create(pool);
    PrefillRequest request;
    const std::vector<TokenId> tokens = {1, 2};
    request.tokens = tokens;
    const Status refused = run.prefill(request, *sequence);
    REQUIRE_FALSE(refused.ok());
    CHECK(refused.error().code == ErrorCode::kUnsupported);
    CHECK(refused.error().message.find("ampere-int8") != std::string::npos);
    CHECK(sequence->length() == 0);
  }

  // Heads of 32 values; a device that is too old.
  ModelConfig narrow = file.config();
  narrow.head_dim = 32;
  CHECK(Ampere::create(narrow, threads).error().code == ErrorCode::kUnsupported);
  simt::settings().compute_major = 7;
  simt::settings().compute_minor = 5;
  const Error old = Ampere::create(file.config(), threads).error();
  CHECK(old.code == ErrorCode::kUnsupported);
  CHECK(old.message.find("sm_75") != std::string::npos);
  simt::settings().compute_major = 8;
  CHECK(simt::take_statistics().launches == 0);
}

TEST_CASE("a device that is full says what was needed and what is free, and goes on afterwards") {
  const ModelFile file = tiny("qwen2-q8_0");
  AmpereRun run(file);
  const std::vector<TokenId> tokens = some_tokens(60, file.config().vocab);
  const std::size_t limit = simt::settings().memory_bytes;
  simt::settings().memory_bytes = simt::DeviceMemory::instance().used_bytes() + 50000;
  const auto sequence = run.sequence();
  PrefillRequest request;
  request.tokens = tokens;
  const Status full = run.prefill(request, *sequence);
  REQUIRE_FALSE(full.ok());
  CHECK(full.error().code == ErrorCode::kResourceExhausted);
  CHECK(full.error().message.find("a batch of 60 tokens needs") != std::string::npos);
  CHECK(sequence->length() == 0);
  ThreadPool threads(1);
  const auto model = Model<path::AmpereInt8>::load(file, threads);
  REQUIRE_FALSE(model.ok());
  CHECK(model.error().code == ErrorCode::kResourceExhausted);

  simt::settings().memory_bytes = limit;
  REQUIRE(run.prefill(request, *sequence).ok());
  CHECK(sequence->length() == 60);
}
