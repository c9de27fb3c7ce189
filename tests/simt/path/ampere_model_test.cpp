// SmolLM2-135M-Instruct prefilled by path::AmpereInt8 on the emulated device: how far its
// distributions are from the reference path's. `[.full]` takes 8 texts, minutes.
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

#include <catch2/catch.hpp>

#include "kvferry/engine/tokenizer.hpp"
#include "kvferry/quality/contexts.hpp"
#include "kvferry/quality/divergence.hpp"

#include "ampere_run.hpp"
#include "tests/support/model.hpp"

using namespace kvferry;
using namespace kvferry_test;

namespace {

constexpr std::size_t kTokens = 256;

// Of the first `count` texts, kTokens tokens each, every position.
Divergence measure(std::size_t count) {
  if (model_path().empty()) {
    std::printf("skipped: no model file; tests/run fetches it\n");
    std::exit(77);
  }
  const ModelFile file = ModelFile::open(model_path()).value();
  const Tokenizer tokenizer = Tokenizer::create(vocabulary_from(file.gguf()).value()).value();
  const std::vector<NamedText> texts = evaluation_texts();
  ModelRun<path::Reference> reference(file, 2);
  AmpereRun ampere(file);
  const std::uint32_t vocab = file.config().vocab;
  DivergenceMeter meter;
  for (std::size_t i = 0; i < count; ++i) {
    std::vector<TokenId> tokens = tokenizer.tokenize(texts[i].text).value();
    REQUIRE(tokens.size() > kTokens);
    const std::vector<TokenId> next(tokens.begin() + 1, tokens.begin() + kTokens + 1);
    tokens.resize(kTokens);
    const auto expected_sequence = reference.sequence(), sequence = ampere.sequence();
    const auto expected = all_logits(reference, tokens, 64, *expected_sequence);
    const auto logits = all_logits(ampere, tokens, kTokens, *sequence);
    for (std::size_t r = 0; r < tokens.size(); ++r) {
      meter.add(diverge(Span<const float>(expected).subspan(r * vocab, vocab),
                        Span<const float>(logits).subspan(r * vocab, vocab), next[r]));
    }
  }
  const Divergence d = meter.result();
  std::printf("ampere-int8, %zu texts x %zu tokens: mean KL %.4f, p99 %.4f, top-1 %.2f %%\n", count,
              kTokens, d.mean, d.p99, 100 * d.top1);
  return d;
}

}  // namespace

TEST_CASE("a text on the real model") {
  const Divergence d = measure(1);
  CHECK(d.mean <= 0.007);
  CHECK(d.p99 <= 0.05);
  CHECK(d.top1 >= 0.92);  // of 256 tokens 1 % is few
}

TEST_CASE("eight texts on the real model", "[.full]") {
  const Divergence d = measure(8);
  CHECK(d.mean <= 0.007);
  CHECK(d.p99 <= 0.05);
  CHECK(d.top1 >= 0.95);
}
