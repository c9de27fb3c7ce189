// Two nodes in one process that speak TCP, over a small model.
#pragma once

#include <atomic>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <catch2/catch.hpp>

#include "kvferry/engine/sampler.hpp"
#include "kvferry/node/client.hpp"
#include "kvferry/node/decode_node.hpp"
#include "kvferry/node/loaded_model.hpp"
#include "kvferry/node/prefill_node.hpp"

namespace kvferry_test {

using namespace kvferry;

inline std::string tiny_model(const std::string& name = "tiny-qwen2-q8_0") {
  return KVFERRY_GOLDEN_DIR "/tiny/" + name + ".gguf";
}

inline ModelOptions tiny_options(const std::string& name = "tiny-qwen2-q8_0") {
  ModelOptions options;
  options.file = tiny_model(name);
  options.threads = 1;
  options.cache_tokens = 2048;
  return options;
}

inline std::unique_ptr<DecodeNode> start_decode(DecodeNodeOptions options = {}) {
  if (options.model.file.empty()) options.model = tiny_options();
  return DecodeNode::start(options, [](const std::string&) {}).value();
}

// For answers that are compared token by token.
inline PrefillNodeOptions lossless() {
  PrefillNodeOptions options;
  options.profile = Profile::kLossless;
  return options;
}

inline std::unique_ptr<PrefillNode> start_prefill(const std::string& decode,
                                                  PrefillNodeOptions options = lossless()) {
  if (options.model.file.empty()) options.model = tiny_options();
  options.decode = decode;
  return PrefillNode::start(options, [](const std::string&) {}).value();
}

// Some token ids of the small model, the same for the same seed.
inline std::vector<TokenId> some_ids(std::size_t count, std::uint32_t seed = 1) {
  std::vector<TokenId> ids;
  std::uint32_t state = seed * 2654435761u + 1;
  for (std::size_t i = 0; i < count; ++i) {
    state = state * 1664525u + 1013904223u;
    ids.push_back((state >> 8) % 400);
  }
  return ids;
}

inline wire::Generate request_of(std::vector<TokenId> ids, std::uint32_t max_tokens) {
  wire::Generate request;
  request.token_ids = std::move(ids);
  request.max_tokens = max_tokens;
  request.ignore_eos = true;
  return request;
}

inline Result<GenerationResult> ask(const PrefillNode& node, const wire::Generate& request) {
  ClientOptions options;
  options.prefill = node.address();
  options.timeout = std::chrono::seconds(60);
  const std::atomic<bool> cancel{false};
  return generate(
      options, request, [](const std::string&) {}, cancel);
}

// What one process computes that does everything itself.
inline std::vector<TokenId> single_process(const LoadedModel& model,
                                           const wire::Generate& request) {
  const std::shared_ptr<KvSequence> sequence = KvSequence::create(model.pool);
  std::vector<float> logits(model.config().vocab);
  PrefillRequest prefill;
  prefill.tokens = request.token_ids;
  prefill.logits = Span<float>(logits);
  model.engine->prefill(prefill, *sequence).value();
  Sampler sampler = Sampler::create(request.sampler).value();
  std::vector<TokenId> history = request.token_ids;
  std::vector<TokenId> tokens;
  for (;;) {
    tokens.push_back(sampler.sample(logits, history).value());
    history.push_back(tokens.back());
    if (tokens.size() == request.max_tokens) return tokens;
    const DecodeInput input{sequence.get(), tokens.back()};
    model.engine->step(Span<const DecodeInput>(&input, 1), Span<float>(logits)).value();
  }
}

}  // namespace kvferry_test
