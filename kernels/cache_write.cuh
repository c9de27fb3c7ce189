// The rows of a batch that go into KV caches, and the RoPE that they take.
#pragma once

#include <cstddef>
#include <cstdint>

#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include "kvferry/compute/device/rope_pairs.hpp"

#include "kernels/finite_half.cuh"
#include "kernels/launch_status.cuh"

namespace kvferry {
namespace kernels {

constexpr unsigned kCacheTileTokens = 32;  // kBlockTokens

// Where rows go in F16 cache blocks (KvBlockLayout): row r to its position's token of blocks[r].
// Rows may be of several sequences, each with its own blocks.
struct CacheRows {
  // [rows] base of the block that holds the row's token, 16-byte aligned
  std::uint8_t* const* blocks;
  const std::uint32_t* positions;  // [rows] in their sequence
  std::size_t key_offset;          // bytes from a block's base to K and
  std::size_t value_offset;        // V of the layer's first head
  int head_dim;

  // The row's token, [head_dim], of the head whose tile begins at this many bytes from the base.
  __device__ __half* token(int row, std::size_t tile) const {
    const std::size_t index = __ldg(positions + row) % kCacheTileTokens;
    return reinterpret_cast<__half*>(blocks[row] + tile) + index * head_dim;
  }
  __device__ std::size_t key_tile(int head) const { return key_offset + tiles(head); }
  __device__ std::size_t value_tile(int head) const { return value_offset + tiles(head); }

 private:
  __device__ std::size_t tiles(int count) const {
    return static_cast<std::size_t>(count) * head_dim * (kCacheTileTokens * sizeof(__half));
  }
};

// Rotations by position: pairs of channels as rope_pair() names them.
struct RopeRotation {
  const float2* cos_sin;  // [positions, rotated / 2] cos and sin, times the attention scale
  int rotated;            // channels of a head that are rotated
  bool is_split;          // RopeLayout::kSplitHalves

  // [rotated / 2] of a position.
  __device__ const float2* at(std::uint32_t position) const {
    return cos_sin + static_cast<std::size_t>(position) * (rotated / 2);
  }
};

// (x, y) -> (x cos - y sin, x sin + y cos), each a product rounded and a fused multiply-add.
__device__ inline float2 rotate(float2 v, float2 cos_sin) {
  return make_float2(fmaf(v.x, cos_sin.x, -__fmul_rn(v.y, cos_sin.y)),
                     fmaf(v.y, cos_sin.x, __fmul_rn(v.x, cos_sin.y)));
}

// Stores a pair of channels of a head with finite_half(). `head` is 4-byte aligned.
__device__ inline void store_pair(__half* head, ChannelPair pair, float2 v) {
  if (pair.second == pair.first + 1 && pair.first % 2 == 0) {
    *reinterpret_cast<__half2*>(head + pair.first) =
        __halves2half2(finite_half(v.x), finite_half(v.y));
  } else {
    head[pair.first] = finite_half(v.x);
    head[pair.second] = finite_half(v.y);
  }
}

// Whether rows of `columns` values are the heads of Q, K and V that this cache and rotation take.
inline bool is_valid_rope(const RopeRotation& rope, const CacheRows& cache, int heads, int kv_heads,
                          int columns) {
  if (heads < 1 || heads > columns || kv_heads < 1 || kv_heads > columns) return false;
  if (cache.head_dim < 2 || cache.head_dim % 2 != 0) return false;
  const std::int64_t all = (std::int64_t{heads} + 2 * std::int64_t{kv_heads}) * cache.head_dim;
  return all == columns && rope.rotated >= 0 && rope.rotated <= cache.head_dim &&
         rope.rotated % 2 == 0 && (rope.rotated == 0 || is_aligned(rope.cos_sin, 8)) &&
         is_aligned(cache.blocks, 8) && is_aligned(cache.positions, 4) &&
         cache.key_offset % 4 == 0 && cache.value_offset % 4 == 0;
}

}  // namespace kernels
}  // namespace kvferry
