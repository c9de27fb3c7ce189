// bench_engine: tokens per second of prefill and decode of a model on a path, end to end through
// the engine (embedding to logits), after a warm-up.
#include "kvferry/engine/engine.hpp"

#include <algorithm>
#include <cstdio>
#include <memory>
#include <string>
#include <vector>

#include <CLI/CLI.hpp>

#include "kvferry/core/stopwatch.hpp"

namespace {

using namespace kvferry;

// Any ids will do: the work does not depend on them.
std::vector<TokenId> some_tokens(std::uint32_t count, std::uint32_t vocab) {
  std::vector<TokenId> tokens(count);
  std::uint32_t state = 12345;
  for (TokenId& t : tokens) {
    state = state * 1664525u + 1013904223u;
    t = (state >> 8) % vocab;
  }
  return tokens;
}

struct Figures {
  double prefill = 0.0;  // tokens per second
  double decode = 0.0;
  double attention = 0.0;  // of the prefill's time, what measuring the attention adds to it
};

// Pairs of prefills, without and with the attention measured.
constexpr int kAttentionPairs = 9;

// Prefill is measured on an empty sequence, decode on one of `depth` tokens.
Figures measure(Engine& engine, std::uint32_t prefill, std::uint32_t decode, std::uint32_t depth,
                std::uint32_t chunk, bool measure_attention) {
  const std::uint32_t vocab = engine.config().vocab;
  const std::uint32_t longest = std::max(prefill, depth + decode) + 16;
  const auto pool = KvPool::create(engine.geometry(), KvPool::blocks_for(longest) + 1).value();
  std::vector<float> logits(vocab);
  std::vector<float> attention;
  const auto run_prefill = [&](std::uint32_t count, bool with_attention = false) {
    const auto sequence = KvSequence::create(pool);
    if (count != 0) {
      const std::vector<TokenId> tokens = some_tokens(count, vocab);
      PrefillRequest request;
      request.tokens = tokens;
      request.chunk_tokens = chunk;
      request.logits = logits;
      if (with_attention) {
        attention.resize(std::size_t{engine.config().layers} * count);
        request.attention = attention;
      }
      engine.prefill(request, *sequence).value();
    }
    return sequence;
  };
  const auto run_decode = [&](KvSequence& sequence, std::uint32_t count) {
    for (const TokenId token : some_tokens(count, vocab)) {
      const DecodeInput input{&sequence, token};
      engine.step(Span<const DecodeInput>(&input, 1), logits).value();
    }
  };

  Figures figures;
  if (prefill != 0) {
    run_prefill(prefill);
    const Stopwatch watch;
    run_prefill(prefill);
    figures.prefill = prefill / watch.seconds();
  }
  if (prefill != 0 && measure_attention) {
    std::vector<double> added;
    for (int i = 0; i < kAttentionPairs; ++i) {
      const Stopwatch without;
      run_prefill(prefill);
      const double seconds = without.seconds();
      const Stopwatch with;
      run_prefill(prefill, true);
      added.push_back(with.seconds() / seconds - 1.0);
    }
    std::nth_element(added.begin(), added.begin() + kAttentionPairs / 2, added.end());
    figures.attention = added[kAttentionPairs / 2];
  }
  if (decode != 0) {
    const auto sequence = run_prefill(depth);
    run_decode(*sequence, 8);
    sequence->truncate(depth).value();
    const Stopwatch watch;
    run_decode(*sequence, decode);
    figures.decode = decode / watch.seconds();
  }
  return figures;
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app("Tokens per second of prefill and decode, through the whole model");
  std::string model;
  EngineOptions options;
  std::uint32_t prefill = 512;
  std::uint32_t decode = 64;
  std::uint32_t depth = 0;
  std::uint32_t chunk = PrefillRequest().chunk_tokens;
  bool attention = false;
  bool json = false;
  app.add_option("--model", model, "GGUF file")->required();
  app.add_option("--path", options.path, "Compute path")->capture_default_str();
  app.add_option("--threads", options.threads, "0: one for each processor")->capture_default_str();
  app.add_option("--prefill", prefill, "Tokens to prefill; 0 to leave out")->capture_default_str();
  app.add_option("--decode", decode, "Tokens to decode; 0 to leave out")->capture_default_str();
  app.add_option("--depth", depth, "Tokens in the cache before decoding")->capture_default_str();
  app.add_option("--chunk", chunk, "Tokens of a prefill chunk")->capture_default_str();
  app.add_flag("--attention", attention,
               "Also show what measuring the attention to each token, for token classes, adds to "
               "the prefill's time: the median of pairs");
  app.add_flag("--json", json, "Print one JSON object");
  CLI11_PARSE(app, argc, argv);
  try {
    const std::unique_ptr<Engine> engine =
        Engine::load(ModelFile::open(model).value(), options).value();
    const Figures f = measure(*engine, prefill, decode, depth, chunk, attention);
    if (json) {
      std::printf(
          "{\"path\":\"%s\",\"prefill_tokens\":%u,\"decode_tokens\":%u,\"depth\":%u,"
          "\"prefill_tokens_per_second\":%.2f,\"decode_tokens_per_second\":%.2f,"
          "\"attention_share\":%.4f}\n",
          engine->path(), prefill, decode, depth, f.prefill, f.decode, f.attention);
    } else {
      if (prefill != 0) std::printf("prefill of %u tokens: %.1f tokens/s\n", prefill, f.prefill);
      if (attention) std::printf("measuring attention adds %.1f %%\n", 100.0 * f.attention);
      if (decode != 0) {
        std::printf("decode of %u tokens at depth %u: %.1f tokens/s\n", decode, depth, f.decode);
      }
    }
  } catch (const std::exception& e) {
    std::fprintf(stderr, "error: %s\n", e.what());
    return 1;
  }
  return 0;
}
