// The model, written once for every path: one batch through the layers that are here.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>

#include "kvferry/cache/sequence.hpp"
#include "kvferry/compute/path.hpp"
#include "kvferry/engine/model.hpp"

namespace kvferry {

// What goes into a batch beside its tokens, and what comes out. Sizes are those of the batch.
struct ForwardIo {
  Span<const float> hidden_in;  // [rows, hidden]: of the layer before; empty for a model's first
  Span<float> hidden_out;       // [rows, hidden]: of the last layer that is here; may be empty
  Span<float> logits;           // [n, vocab]: of the last n rows of the batch; may be empty
};

// kMismatch when the sequence's cache is not one of the model's layers, kUnsupported when the path
// does not compute on its element type or in its memory.
template <typename Path>
Status check_cache(const Model<Path>& model, const KvPool& pool) {
  KVFERRY_TRY(Compute<Path>::check_cache(pool));
  const KvGeometry& cache = pool.geometry();
  const KvGeometry own = model.geometry(cache.type);
  if (!cache.holds_layer(own.first_layer) || !cache.holds_layer(own.first_layer + own.layers - 1)) {
    return Error(ErrorCode::kMismatch, "cache: holds layers [" + std::to_string(cache.first_layer) +
                                           ", " + std::to_string(cache.first_layer + cache.layers) +
                                           "), the model's are [" +
                                           std::to_string(own.first_layer) + ", " +
                                           std::to_string(own.first_layer + own.layers) + ")");
  }
  if (cache.kv_heads != own.kv_heads || cache.head_dim != own.head_dim) {
    return Error(ErrorCode::kMismatch, "cache: " + std::to_string(cache.kv_heads) + " heads of " +
                                           std::to_string(cache.head_dim) + ", the model has " +
                                           std::to_string(own.kv_heads) + " of " +
                                           std::to_string(own.head_dim));
  }
  if (cache.rope != own.rope) {
    return Error(ErrorCode::kMismatch, "cache: its RoPE is not the model's");
  }
  return Status();
}

// kInvalidArgument for an id that the vocabulary has not, kResourceExhausted past the context that
// the model was made for.
inline Status check_tokens(const ModelConfig& config, std::uint32_t length,
                           Span<const TokenId> tokens) {
  for (std::size_t i = 0; i < tokens.size(); ++i) {
    if (tokens[i] >= config.vocab) {
      return Error(ErrorCode::kInvalidArgument,
                   "token " + std::to_string(i) + ": id " + std::to_string(tokens[i]) +
                       " is not in the vocabulary of " + std::to_string(config.vocab));
    }
  }
  if (length > config.context_length || tokens.size() > config.context_length - length) {
    return Error(ErrorCode::kResourceExhausted, "context: " + std::to_string(length) +
                                                    " tokens and " + std::to_string(tokens.size()) +
                                                    " more exceed the model's " +
                                                    std::to_string(config.context_length));
  }
  return Status();
}

// Runs a batch through the model's layers on caches of geometry `cache`. Calls on_layer(layer),
// which returns a Status and may call operations that need no more than store_kv, as soon as the
// keys and values of all rows are queued; its error ends the run, and nothing that was queued is
// still at work then.
template <typename Path, typename OnLayer>
Status forward(const Model<Path>& model, Compute<Path>& compute, const Batch& batch,
               const KvGeometry& cache, const ForwardIo& io, OnLayer&& on_layer) {
  const std::size_t rows = rows_of(batch);
  const std::size_t logit_rows = io.logits.size() / model.config().vocab;
  KVFERRY_TRY(compute.begin(batch, cache));
  if (model.embedding() != nullptr) {
    compute.embed(*model.embedding());
  } else {
    compute.set_hidden(io.hidden_in);
  }
  const LayerRange layers = model.layers();
  for (std::uint32_t l = layers.begin; l < layers.end; ++l) {
    const auto& layer = model.layer(l);
    compute.store_kv(layer, l);
    Status announced = on_layer(l);
    if (!announced.ok()) {
      // The caller gives the blocks back: no late write may land in them.
      static_cast<void>(compute.fence().wait());
      return announced;
    }
    if (l + 1 == layers.end && io.hidden_out.empty()) {  // what follows is only for the logits
      if (logit_rows == 0) return Status();
      compute.keep_from(rows - logit_rows);
    }
    compute.attend(layer, l);
    compute.feed_forward(layer);
  }
  if (!io.hidden_out.empty()) compute.get_hidden(io.hidden_out);
  if (logit_rows != 0) compute.logits(*model.head(), rows - logit_rows, io.logits);
  return Status();
}

}  // namespace kvferry
