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
struct Reference;   // F32 throughout: what every other path is measured against
struct Cpu;         // quantised weights, whole-number products
struct AmpereInt8;  // CUDA, sm_80 and later: INT8 tensor cores, F16 attention
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

// kUnsupported unless the pool's blocks lie in `memory`, where the path of that name computes.
inline Status check_memory(const char* path, const KvPool& pool, const KvMemory& memory) {
  if (&pool.memory() == &memory) return Status();
  return Error(ErrorCode::kUnsupported, std::string("the path `") + path +
                                            "` computes on caches in the memory of " +
                                            memory.name() + ", not of " + pool.memory().name());
}

// The operations of a path. Specialisations own the buffers that the operations work in, the rows'
// hidden states among them.
//
// What they have beside their operations:
//
//   kName          "cpu"
//   kCacheType     the element type of caches that suits the path best
//   Layer, Embedding, Head
//       weights in the path's own layout, immutable once loaded, for any number of Compute objects
//   static Result<Layer> load_layer(const ModelConfig&, const LayerWeights&, ThreadPool&)
//   static Result<Embedding> load_embedding(const ModelConfig&, const TensorView&, ThreadPool&)
//   static Result<Head> load_head(const ModelConfig&, const ModelWeights&, const Embedding*,
//                                 ThreadPool&)
//       an embedding that is given is shared when the model ties the two
//   static std::shared_ptr<KvMemory> cache_memory()
//       where caches lie that the path computes on
//   static Status check_cache(const KvPool&)
//       whether the path computes on caches of that pool
//   static Result<Compute> create(const ModelConfig&, ThreadPool&)
//       both outlive it
//
// The operations, in the order in which a batch calls them. A `layer` number is the model's own.
//
//   Status begin(const Batch&, const KvGeometry&)
//       a batch on caches of that geometry, of pools that check_cache accepts; what it points to
//       stays until its last operation
//   void embed(const Embedding&)
//       hidden[r] = embedding[token[r]]
//   void set_hidden(Span<const float>)
//       the same from the host, [rows, hidden], where the layers before are elsewhere
//   void store_kv(const Layer&, layer)
//       q, k, v = W · norm(hidden) (+ bias, norm of each head), RoPE; k and v into the caches
//   void token_attention(layer, queries, Span<float>)
//       to the host, [rows]: how much the last `queries` rows look at each row of a batch of one
//       run: the mean of a^2 over the heads and over those of the queries that see the row, where a
//       is the attention's softmax weight
//   Fence fence()
//       done when all operations before it are
//   void keep_from(row)
//       what follows is computed for rows [row, end) only
//   void attend(const Layer&, layer)
//       hidden += Wo · attention(q, cache)
//   void feed_forward(const Layer&)
//       hidden += Wdown · (silu(Wgate · n) * (Wup · n)), n = norm(hidden)
//   void get_hidden(Span<float>)
//       to the host, [rows, hidden]
//   void logits(const Head&, row, Span<float>)
//       to the host, [n, vocab], of rows [row, row + n)
//
// Operations that hand data to the host return when it is there, token_attention when it will be
// there at the next fence; others may return earlier. A row's
// results have the same bits whatever else is in the batch and however many threads there are.
template <typename Path>
class Compute;

}  // namespace kvferry
