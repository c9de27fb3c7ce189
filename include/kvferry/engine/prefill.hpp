// Prefill<Path>: computes the KV cache of a prompt, chunk by chunk.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>

#include "kvferry/cache/sequence.hpp"
#include "kvferry/engine/forward.hpp"

namespace kvferry {

// Keys and values of tokens [begin, end) of a layer that have just been computed. They can be read
// from the sequence once the fence has been waited for.
struct LayerReady {
  std::uint32_t layer = 0;
  std::uint32_t begin = 0;
  std::uint32_t end = 0;
  Fence fence;
  // [end - begin], of PrefillRequest::attention; empty when that is. Read it after the fence.
  Span<const float> attention;
};

// As long as the prompts that the codec's profiles are judged on: a chunk's token classes come from
// its own last queries, and shorter chunks know less.
constexpr std::uint32_t kDefaultChunkTokens = 512;

// Queries at the end of a chunk whose attention is measured.
constexpr std::uint32_t kMeasuredQueries = 64;

struct PrefillRequest {
  Span<const TokenId> tokens;  // what is appended to the sequence
  // Tokens of a batch. The result does not depend on it; larger is faster, smaller lets the cache
  // leave earlier and takes less memory.
  std::uint32_t chunk_tokens = kDefaultChunkTokens;
  // Called in the thread of run(), in order: chunk by chunk, layer by layer. An error that it
  // returns ends the run (kCancelled, for instance). May be empty.
  std::function<Status(const LayerReady&)> on_layer;
  // [layers that are here, tokens], or empty: how much the last kMeasuredQueries queries of a
  // token's chunk look at it: the mean of a^2 over the heads and over those of them that see it,
  // where a is the attention's softmax weight. The codec's token classes are made of it. Costs a
  // few percent of the run.
  Span<float> attention;
  // [n, vocab] for the logits of the last n tokens: as many as fit. Needs the last layer.
  Span<float> logits;
  // [tokens, hidden]: of the layer before the first that is here; needed unless that is layer 0.
  Span<const float> hidden_in;
  // [tokens, hidden], or empty: of the last layer that is here.
  Span<float> hidden_out;
};

template <typename Path>
class Prefill {
 public:
  // Both outlive it. One run at a time on a Compute.
  Prefill(const Model<Path>& model, Compute<Path>& compute) : model_(model), compute_(compute) {}

  // Appends the request's tokens to the sequence. On any error the sequence is as it was before:
  // kInvalidArgument for the request, kMismatch or kUnsupported for the cache, kResourceExhausted
  // for context or pool, and what on_layer returned.
  Status run(const PrefillRequest& request, KvSequence& sequence) {
    KVFERRY_TRY(check(request, sequence));
    KVFERRY_ASSIGN(KvAppend append, sequence.append(request.tokens));
    const ModelConfig& config = model_.config();
    const std::size_t total = request.tokens.size();
    const std::size_t first_logits = total - request.logits.size() / config.vocab;
    for (std::size_t begin = 0; begin < total;) {
      const std::size_t end = begin + std::min<std::size_t>(request.chunk_tokens, total - begin);
      const BatchRun run{request.tokens.subspan(begin, end - begin),
                         append.begin() + static_cast<std::uint32_t>(begin), append.blocks()};
      ForwardIo io;
      io.hidden_in = part(request.hidden_in, begin, end, config.hidden);
      io.hidden_out = part(request.hidden_out, begin, end, config.hidden);
      if (end > first_logits) {
        const std::size_t from = std::max(begin, first_logits);
        io.logits = part(request.logits, from - first_logits, end - first_logits, config.vocab);
      }
      const auto announce = [&](std::uint32_t layer) -> Status {
        Span<float> attention;
        if (!request.attention.empty()) {
          const std::size_t row = layer - model_.layers().begin;
          attention = request.attention.subspan(row * total + begin, end - begin);
          compute_.token_attention(layer, kMeasuredQueries, attention);
        }
        if (!request.on_layer) return Status();
        return request.on_layer({layer, run.begin, append.begin() + static_cast<std::uint32_t>(end),
                                 compute_.fence(), attention});
      };
      KVFERRY_TRY(forward(model_, compute_, Batch(&run, 1), sequence.geometry(), io, announce));
      begin = end;
    }
    KVFERRY_TRY(compute_.fence().wait());
    append.publish();
    return Status();
  }

 private:
  template <typename T>
  static Span<T> part(Span<T> rows, std::size_t begin, std::size_t end, std::size_t width) {
    return rows.empty() ? rows : rows.subspan(begin * width, (end - begin) * width);
  }

  Status check(const PrefillRequest& request, const KvSequence& sequence) const {
    const ModelConfig& config = model_.config();
    const auto refuse = [](const std::string& what) {
      return Status(ErrorCode::kInvalidArgument, "prefill: " + what);
    };
    const std::size_t hidden = request.tokens.size() * config.hidden;
    if (request.tokens.empty()) return refuse("no tokens");
    if (request.chunk_tokens == 0) return refuse("chunks of no tokens");
    if (request.logits.size() % config.vocab != 0 ||
        request.logits.size() / config.vocab > request.tokens.size()) {
      return refuse("room for " + std::to_string(request.logits.size()) + " logits; give " +
                    std::to_string(config.vocab) + " for each of at most " +
                    std::to_string(request.tokens.size()) + " tokens");
    }
    const std::size_t layers = model_.layers().end - model_.layers().begin;
    if (!request.attention.empty() && request.attention.size() != layers * request.tokens.size()) {
      return refuse("room for " + std::to_string(request.attention.size()) +
                    " attention values instead of " +
                    std::to_string(layers * request.tokens.size()));
    }
    if (!request.logits.empty() && model_.head() == nullptr) {
      return refuse("logits come from the model's last layer, which is not here");
    }
    if (request.hidden_in.size() != (model_.embedding() == nullptr ? hidden : 0)) {
      return refuse("hidden states go in exactly where the model's first layer is not here, " +
                    std::to_string(config.hidden) + " a token");
    }
    if (!request.hidden_out.empty() && request.hidden_out.size() != hidden) {
      return refuse("room for " + std::to_string(request.hidden_out.size()) +
                    " hidden values instead of " + std::to_string(hidden));
    }
    KVFERRY_TRY(check_tokens(config, sequence.length(), request.tokens));
    return check_cache(model_, *sequence.pool());
  }

  const Model<Path>& model_;
  Compute<Path>& compute_;
};

}  // namespace kvferry
