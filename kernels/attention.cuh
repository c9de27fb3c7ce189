// Attention over the block table: what its launchers take. No device code.
#pragma once

#include <cstddef>
#include <cstdint>

#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include "kernels/launch_status.cuh"

namespace kvferry {
namespace kernels {

// As in the cache (kBlockTokens); tests compare the two.
constexpr std::uint32_t kCacheBlockTokens = 32;
// Tokens whose softmax is one sum, by absolute position.
constexpr std::uint32_t kPartitionTokens = 128;
// Softmax is computed with powers of 2.
constexpr float kLog2E = 1.44269504f;

// Blocks of a sequence: starts of blocks in device memory, each aligned to 16 bytes.
using CacheBlock = const std::uint8_t*;

// One layer's attention. The cache is F16, keys after RoPE.
struct AttentionShape {
  std::uint32_t heads;       // query heads
  std::uint32_t kv_heads;    // divides heads
  std::uint32_t head_dim;    // 64 or 128
  float scale;               // of the scores, > 0: 1 / sqrt(head_dim)
  std::size_t key_offset;    // bytes from a block's start to this layer's keys
  std::size_t value_offset;  // and values, each [kv_heads, kCacheBlockTokens, head_dim]
};

// Launchers return before their kernels are done. An error is about the arguments, and nothing was
// queued, or is the runtime's of a launch. What lies in device memory (positions, tables of blocks)
// is the caller's word.

// A chunk of one sequence: row r, at position begin + r, sees keys [0, begin + r], which are in the
// cache. A row's result has the same bits whatever other rows the chunk has, as long as keys and
// values are finite; memory past the last position is not used.
struct FlashPrefillParams {
  AttentionShape shape;
  const __half* q;           // [rows, heads, head_dim], 4-byte aligned
  __half* out;               // [rows, heads, head_dim], 4-byte aligned
  const CacheBlock* blocks;  // [ceil((begin + rows) / kCacheBlockTokens)]
  std::uint32_t rows;        // > 0
  std::uint32_t begin;
};
LaunchStatus launch_flash_prefill(const FlashPrefillParams& params, cudaStream_t stream);

// Softmax and weighted values of partitions of kPartitionTokens tokens. A partition's weights are
// 2^(score - maximum) / 8.
struct AttentionPartials {
  float* values;             // [sequences, partitions, heads, head_dim], 16-byte aligned: weighted
  float2* weights;           // [sequences, partitions, heads]: maximum, sum of the weights
  std::uint32_t partitions;  // those that there is room for, of each sequence
};

// One query a sequence, or several of one sequence, which then share a table. The one at position p
// sees keys [0, p]; memory past p is not used.
struct SplitAttentionParams {
  AttentionShape shape;
  const float* q;                  // [sequences, heads, head_dim] after RoPE, 8-byte aligned
  const CacheBlock* blocks;        // [sequences, table_blocks], a row every table_stride
  const std::uint32_t* positions;  // [sequences], each < kCacheBlockTokens * table_blocks
  AttentionPartials partials;
  std::uint32_t sequences;     // > 0
  std::uint32_t table_blocks;  // of a sequence, which may use a part of them
  std::uint32_t table_stride;  // at least table_blocks, or 0: all share one row
};
// Writes the partials of partitions [0, position / kPartitionTokens]. The grid depends on the
// arguments and not on the positions, so that a captured launch serves any; results do not depend
// on the grid. `multiprocessors` are the device's.
LaunchStatus launch_split_attention(const SplitAttentionParams& params,
                                    std::uint32_t multiprocessors, cudaStream_t stream);

// Partitions that a sequence of `table_blocks` blocks can have.
constexpr std::uint32_t attention_partitions(std::uint32_t table_blocks) {
  return table_blocks / (kPartitionTokens / kCacheBlockTokens) +
         (table_blocks % (kPartitionTokens / kCacheBlockTokens) != 0 ? 1 : 0);
}

// The sequences' attention, made of the partials: row = sequence, column = head * head_dim +
// dimension. A product may take it as its input (attention_combine.cuh).
struct CombinedAttention {
  AttentionPartials partials;
  const std::uint32_t* positions;  // [sequences]
  std::uint32_t heads;
  std::uint32_t head_dim;  // a multiple of 4
};
struct CombineAttentionParams {
  CombinedAttention input;
  float* out;               // [sequences, heads, head_dim], 16-byte aligned
  std::uint32_t sequences;  // > 0
};
LaunchStatus launch_combine_attention(const CombineAttentionParams& params, cudaStream_t stream);

// out[r] = mean of a^2 over the heads and over those of the chunk's last `queries` rows that see
// row r, where a is the softmax weight over all keys that the query sees.
struct TokenAttentionParams {
  AttentionShape shape;
  const void* q;             // [rows, heads, head_dim] after RoPE, F16 or F32, two values aligned
  float* out;                // [rows]
  const CacheBlock* blocks;  // [ceil((begin + rows) / kCacheBlockTokens)]
  std::uint32_t rows;        // > 0
  std::uint32_t begin;       // position of row 0
  std::uint32_t queries;     // > 0; more than rows are all rows
  void* workspace;           // 8-byte aligned, contents meaningless before and after
  std::size_t workspace_bytes;
};
enum class QueryType { kF16, kF32 };
// At least this much workspace; 0 when the arguments do not fit together.
std::size_t token_attention_workspace(const TokenAttentionParams& params);
LaunchStatus launch_token_attention(const TokenAttentionParams& params, QueryType type,
                                    cudaStream_t stream);

}  // namespace kernels
}  // namespace kvferry
