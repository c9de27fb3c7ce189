// Handed over losslessly, SmolLM2 generates as if nothing had happened: prints the figures.
#include <cstdio>
#include <cstring>

#include "kvferry/node/in_process_handoff.hpp"

#include "node_fixture.hpp"
#include "tests/support/model.hpp"

namespace kvferry_test {
namespace {

constexpr std::uint32_t kTokens = 64;

// 64 greedy tokens and the logits that chose them, with the cache handed over before the first
// step.
struct Run {
  std::vector<TokenId> tokens;
  std::vector<float> logits;  // [64, vocab]
};

Run run(const LoadedModel& model, const std::vector<TokenId>& prompt, bool handed_over) {
  std::shared_ptr<KvSequence> sequence = KvSequence::create(model.pool);
  std::unique_ptr<InProcessHandoff> handoff;
  if (handed_over) {
    handoff = InProcessHandoff::start(model, sequence, prompt, Profile::kLossless).value();
  }
  const std::size_t vocab = model.config().vocab;
  std::vector<float> logits(vocab);
  PrefillRequest prefill;
  prefill.tokens = prompt;
  prefill.logits = Span<float>(logits);
  if (handed_over) {
    prefill.on_layer = [&](const LayerReady& ready) {
      return handoff->publish(ready.layer, ready.begin, ready.end);
    };
  }
  model.engine->prefill(prefill, *sequence).value();
  if (handed_over) sequence = handoff->finish().value().sequence;
  Run out;
  Sampler sampler = Sampler::create({}).value();
  for (;;) {
    out.logits.insert(out.logits.end(), logits.begin(), logits.end());
    out.tokens.push_back(sampler.sample(logits).value());
    if (out.tokens.size() == kTokens) return out;
    const DecodeInput input{sequence.get(), out.tokens.back()};
    model.engine->step(Span<const DecodeInput>(&input, 1), Span<float>(logits)).value();
  }
}

TEST_CASE("64 tokens and all logits are bit-identical after a lossless hand-off") {
  ModelOptions options;
  options.file = model_path();
  const LoadedModel model = LoadedModel::load(options).value();
  DecodeNodeOptions decode_options;
  decode_options.model = options;
  const auto decode = start_decode(decode_options);
  PrefillNodeOptions prefill_options = lossless();
  prefill_options.model = options;
  const auto prefill = start_prefill(decode->address(), prefill_options);

  for (const std::size_t length : {1u, 31u, 32u, 33u, 255u, 256u, 257u, 1000u}) {
    const std::vector<TokenId> prompt = some_ids(length, 7);
    const Run alone = run(model, prompt, false);
    const Run handed = run(model, prompt, true);
    CAPTURE(length);
    CHECK(handed.tokens == alone.tokens);
    REQUIRE(handed.logits.size() == alone.logits.size());
    const bool same_bits = std::memcmp(handed.logits.data(), alone.logits.data(),
                                       alone.logits.size() * sizeof(float)) == 0;
    CHECK(same_bits);

    const bool same_over_tcp =
        ask(*prefill, request_of(prompt, kTokens)).value().tokens == alone.tokens;
    CHECK(same_over_tcp);
    wire::Generate sampled = request_of(prompt, kTokens);
    sampled.sampler.temperature = 0.8f;
    sampled.sampler.seed = 11;
    const bool same_sampled =
        ask(*prefill, sampled).value().tokens == single_process(model, sampled);
    CHECK(same_sampled);
    std::printf(
        "prompt %4zu: logits bit-identical %s, tokens over TCP identical %s, "
        "sampled at 0.8 identical %s\n",
        length, same_bits ? "yes" : "NO", same_over_tcp ? "yes" : "NO",
        same_sampled ? "yes" : "NO");
  }
}

}  // namespace
}  // namespace kvferry_test
