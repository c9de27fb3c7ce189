// Checks shared by the tests of small models and of SmolLM2: results do not depend on chunks,
// threads or what else is in a batch.
#pragma once

#include <cstring>
#include <random>
#include <vector>

#include <catch2/catch.hpp>

#include "model_run.hpp"

namespace kvferry_test {

inline std::vector<kvferry::TokenId> random_tokens(std::size_t count, std::uint32_t vocab,
                                                   unsigned seed) {
  std::mt19937 random(seed);
  std::vector<kvferry::TokenId> tokens(count);
  for (kvferry::TokenId& t : tokens) t = static_cast<kvferry::TokenId>(random() % vocab);
  return tokens;
}

inline bool same_bits(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

// The cache and the last logits of a prompt, for chunks of 1, 7, 64 and the whole, on 1, 2 and 3
// threads; and token by token through decoding steps.
template <typename Path>
void check_chunks_and_threads(const kvferry::ModelFile& file, kvferry::ElementType type,
                              std::size_t prompt) {
  std::vector<std::uint8_t> first_cache;
  std::vector<float> first_logits;
  for (const std::size_t threads : {1u, 2u, 3u}) {
    ModelRun<Path> run(file, threads, {}, type);
    const std::vector<kvferry::TokenId> tokens = random_tokens(prompt, run.config().vocab, 1);
    const auto compare = [&](const kvferry::KvSequence& sequence,
                             const std::vector<float>& logits) {
      const std::vector<std::uint8_t> cache = cache_bytes(sequence);
      if (first_cache.empty()) {
        first_cache = cache;
        first_logits = logits;
      }
      CHECK((cache == first_cache));
      CHECK(same_bits(logits, first_logits));
    };
    for (const std::size_t chunk : {prompt, std::size_t{1}, std::size_t{7}, std::size_t{64}}) {
      CAPTURE(threads, chunk);
      const auto sequence = run.sequence();
      const std::vector<float> logits =
          run.prefill_logits(tokens, 1, static_cast<std::uint32_t>(chunk), *sequence);
      compare(*sequence, logits);
    }
    CAPTURE(threads);
    const auto sequence = run.sequence();
    std::vector<float> logits(run.config().vocab);
    for (const kvferry::TokenId token : tokens) run.step({{sequence.get(), token}}, logits).value();
    compare(*sequence, logits);
  }
}

// Sequences of unlike lengths that step together give what each gives alone.
template <typename Path>
void check_batched_steps(const kvferry::ModelFile& file) {
  ModelRun<Path> run(file, 2);
  const std::uint32_t vocab = run.config().vocab;
  constexpr std::size_t kSequences = 5;
  constexpr std::size_t kSteps = 6;
  std::vector<std::shared_ptr<kvferry::KvSequence>> together, alone;
  for (std::size_t s = 0; s < kSequences; ++s) {
    const auto prompt = random_tokens(1 + 29 * s, vocab, static_cast<unsigned>(s));
    together.push_back(run.sequence());
    run.prefill_logits(prompt, 1, 64, *together.back());
    alone.push_back(together.back()->fork(together.back()->length()).value());
  }
  for (std::size_t step = 0; step < kSteps; ++step) {
    const auto tokens = random_tokens(kSequences, vocab, static_cast<unsigned>(100 + step));
    std::vector<kvferry::DecodeInput> inputs;
    for (std::size_t s = 0; s < kSequences; ++s) inputs.push_back({together[s].get(), tokens[s]});
    std::vector<float> logits(kSequences * vocab);
    run.step(inputs, logits).value();
    for (std::size_t s = 0; s < kSequences; ++s) {
      CAPTURE(step, s);
      std::vector<float> expected(vocab);
      run.step({{alone[s].get(), tokens[s]}}, expected).value();
      CHECK(std::memcmp(expected.data(), logits.data() + s * vocab, vocab * sizeof(float)) == 0);
    }
  }
  for (std::size_t s = 0; s < kSequences; ++s)
    CHECK((cache_bytes(*together[s]) == cache_bytes(*alone[s])));
}

}  // namespace kvferry_test
