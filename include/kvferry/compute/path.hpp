// A compute path: the operations that a Llama-family model needs, on one kind of hardware and in
// one arithmetic. A path is a tag type; Compute<Path> supplies its operations. The engine is
// written once, over any path.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "kvferry/cache/pool.hpp"
#include "kvferry/cache/source_sink.hpp"
#include "kvferry/core/result.hpp"
#include "kvferry/core/span.hpp"

namespace kvferry {

namespace path {
struct Reference;  // F32 throughout: what every other path is measured against
struct Cpu;        // quantised weights, whole-number products
}  // namespace path

// Tokens of one sequence that are computed together.
struct BatchRun {
  Span<const TokenId> tokens;
  std::uint32_t begin = 0;           // position of tokens[0]: token i attends to [0, begin + i]
  Span<std::uint8_t* const> blocks;  // of tokens [0, begin + tokens.size()), as in KvAppend
};

// Rows of (sequence, position, token): a prefill chunk is one run of many tokens, a decoding step
// one run of one token, a batched step several. Row r of the batch is the r-th token over all runs.
// Two runs never share a block that either of them writes.
using Batch = Span<const BatchRun>;

inline std::size_t rows_of(const Batch& batch) {
  std::size_t rows = 0;
  for (const BatchRun& run : batch) rows += run.tokens.size();
  return rows;
}

// Says when the work that was queued before it is done. Copies may wait in any thread.
class Fence {
 public:
  // Work that is already done.
  Fence() = default;
  // Work that is done when `wait` returns without an error.
  explicit Fence(std::function<Status()> wait) : wait_(std::move(wait)) {}

  // Returns when the work is done; an error when it failed.
  Status wait() const { return wait_ ? wait_() : Status(); }

 private:
  std::function<Status()> wait_;
};

// The operations of a path. Specialisations own the buffers that the operations work in (the rows'
// hidden states among them) and have, for `using Path = …`:
//
//   static constexpr const char* kName;    "cpu"
//   struct Layer, Embedding, Head          weights in the path's own layout, immutable once loaded,
//                                          shared by any number of Compute objects
//   static Result<Layer> load_layer(const ModelConfig&, const LayerWeights&, ThreadPool&);
//   static Result<Embedding> load_embedding(const ModelConfig&, const TensorView&, ThreadPool&);
//   static Result<Head> load_head(const ModelConfig&, const ModelWeights&, const Embedding*,
//                                 ThreadPool&);       shares a tied embedding that is given
//   static Status check_cache(const KvGeometry&);     whether the path computes on such a cache
//
//   Compute(const ModelConfig&, ThreadPool&);         both outlive it
//   Status begin(const Batch&, const KvGeometry&);    starts a batch on caches of that geometry;
//                                                     what the batch points to stays until it ends
//   void embed(const Embedding&);                     hidden[r] = embedding[token[r]]
//   void set_hidden(Span<const float>);               [rows, hidden], in place of embed()
//   void get_hidden(Span<float>);                     [rows, hidden]
//   void store_kv(const Layer&, layer);               q, k, v = W · norm(hidden) (+ bias, head
//   norms),
//                                                     RoPE; k and v go to the caches, q stays here
//   Fence fence();                                    of all operations up to here
//   void keep_from(row);                              from here on only rows [row, end) are
//   computed void attend(const Layer&, layer);                 hidden += Wo · attention(q, cache)
//   void feed_forward(const Layer&);                  hidden += Wdown · (silu(gate) * up) of
//                                                     norm(hidden)
//   void logits(const Head&, row, Span<float>);       [n, vocab] of rows [row, row + n)
//
// `layer` is the model's number of the layer. Operations take effect in the order of the calls.
// Those that hand data to the host return when it is there. A row's results have the same bits
// whatever else is in the batch and however many threads there are.
template <typename Path>
class Compute;

}  // namespace kvferry
