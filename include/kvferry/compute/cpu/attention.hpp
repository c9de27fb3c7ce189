// Causal attention over a block table.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kvferry/cache/geometry.hpp"
#include "kvferry/compute/cpu/aligned_buffer.hpp"
#include "kvferry/compute/cpu/isa.hpp"
#include "kvferry/core/span.hpp"
#include "kvferry/core/thread_pool.hpp"

namespace kvferry::cpu {

// Softmax runs over partitions of this many tokens by absolute position, which are merged in order,
// so that a result does not depend on how the work was cut.
constexpr std::uint32_t kAttentionPartition = 128;

// One layer's attention.
struct AttentionShape {
  std::uint32_t heads = 0;     // query heads
  std::uint32_t kv_heads = 0;  // divides heads
  std::uint32_t head_dim = 0;  // even
  ElementType type = ElementType::kF16;
  float scale = 1.0f;            // of the scores: 1 / sqrt(head_dim)
  std::size_t key_offset = 0;    // bytes from a block's start to this layer's keys
  std::size_t value_offset = 0;  // and values, each [kv_heads, kBlockTokens, head_dim]
};

// One query token. Sees keys [0, position] of its sequence.
struct AttentionQuery {
  const std::uint8_t* const* blocks = nullptr;  // [position / kBlockTokens + 1] starts of blocks
  std::uint32_t position = 0;
};

// Memory that attention() works in. Keeps it between uses; one user at a time.
class AttentionWorkspace {
 public:
  AlignedBuffer tiles;     // of every thread
  AlignedBuffer partials;  // of split sequences
};

// q and out: [queries, heads, head_dim] F32. Consecutive queries of the same sequence (the same
// `blocks` pointer, positions ascending) share the converted keys and values. All arithmetic is
// F32; the exponential is within 2e-7 of its value. A query's result has the same bits whatever the
// other queries, the split into calls and the thread count. Memory past `position` is not used.
void attention(const Kernels& kernels, ThreadPool& pool, const AttentionShape& shape,
               Span<const AttentionQuery> queries, const float* q, float* out,
               AttentionWorkspace& workspace);

// How much `queries`, all of one sequence with ascending positions, look at each token: out[t] is
// the mean of a^2 over the heads and over those queries that see token first_token + t, where a is
// the softmax weight of attention(); 0 for a token that none of them sees. Has the same bits for
// any thread count.
void attention_squares(const Kernels& kernels, ThreadPool& pool, const AttentionShape& shape,
                       Span<const AttentionQuery> queries, const float* q,
                       std::uint32_t first_token, Span<float> out, AttentionWorkspace& workspace);

}  // namespace kvferry::cpu
