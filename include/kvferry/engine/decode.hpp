// Decode<Path>: one token further, for any number of sequences at once.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "kvferry/cache/sequence.hpp"
#include "kvferry/engine/forward.hpp"

namespace kvferry {

// A token to append to a sequence.
struct DecodeInput {
  KvSequence* sequence = nullptr;
  TokenId token = 0;
};

template <typename Path>
class Decode {
 public:
  // Both outlive it. One step at a time on a Compute. The model has all its layers.
  Decode(const Model<Path>& model, Compute<Path>& compute) : model_(model), compute_(compute) {}

  // Appends each token to its sequence (all of one geometry, each named once) and gives the logits
  // that follow it: logits [inputs, vocab]. A sequence's result does not depend on which others are
  // in the step. On any error all sequences are as they were: kInvalidArgument for the inputs,
  // kMismatch or kUnsupported for a cache, kResourceExhausted for context or pool.
  Status step(Span<const DecodeInput> inputs, Span<float> logits) {
    const ModelConfig& config = model_.config();
    if (model_.embedding() == nullptr || model_.head() == nullptr) {
      return Error(ErrorCode::kInvalidArgument, "decode: needs a model with all its layers");
    }
    if (inputs.empty() || logits.size() != inputs.size() * config.vocab) {
      return Error(ErrorCode::kInvalidArgument,
                   "decode: room for " + std::to_string(logits.size()) + " logits for " +
                       std::to_string(inputs.size()) + " tokens and a vocabulary of " +
                       std::to_string(config.vocab));
    }
    const KvGeometry& cache = inputs[0].sequence->geometry();
    std::vector<KvAppend> appends;
    std::vector<BatchRun> runs;
    appends.reserve(inputs.size());
    for (const DecodeInput& input : inputs) {
      const Span<const TokenId> token(&input.token, 1);
      KVFERRY_TRY(check_tokens(config, input.sequence->length(), token));
      KVFERRY_TRY(check_cache(model_, *input.sequence->pool()));
      if (input.sequence->geometry().type != cache.type ||
          input.sequence->geometry().first_layer != cache.first_layer ||
          input.sequence->geometry().layers != cache.layers) {
        return Error(ErrorCode::kMismatch, "decode: the sequences of a step have unlike caches");
      }
      KVFERRY_ASSIGN(KvAppend append, input.sequence->append(token));
      runs.push_back({token, append.begin(), append.blocks()});
      appends.push_back(std::move(append));
    }
    ForwardIo io;
    io.logits = logits;
    KVFERRY_TRY(
        forward(model_, compute_, Batch(runs), cache, io, [](std::uint32_t) { return Status(); }));
    KVFERRY_TRY(compute_.fence().wait());
    for (KvAppend& append : appends) append.publish();
    return Status();
  }

 private:
  const Model<Path>& model_;
  Compute<Path>& compute_;
};

}  // namespace kvferry
