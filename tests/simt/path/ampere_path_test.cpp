// path::AmpereInt8 on the emulated device, through the engine.
#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include <catch2/catch.hpp>

#include "kvferry/quality/divergence.hpp"

#include "ampere_run.hpp"

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
