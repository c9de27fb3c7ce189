// norm_rope_write: RMSNorm of each head of Q and K, RoPE, and the stores that GemmRopeWrite makes,
// for models that norm heads (qwen3). The product before it stores F32, channels in the model's
// order.
//
//   v = (x * (1 / sqrt(mean(x^2) + epsilon))) * weight, rotated as RopeRotation says
// The sum of squares: lane l takes pairs l, l + 32, … of the head, first channel then second, with
// fma; then a butterfly over the lanes, neighbours first.
#pragma once

#include <cstddef>
#include <cstdint>

#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include "kernels/cache_write.cuh"

namespace kvferry {
namespace kernels {

constexpr int kNormRopeThreads = 128;
constexpr int kNormRopeMaxHeadDim = 256;

struct NormRopeWriteParams {
  const float* qkv;       // [rows, heads + 2 kv_heads, head_dim]
  const float* q_weight;  // [head_dim]
  const float* k_weight;  // [head_dim]
  float epsilon;
  __half* q;  // [rows, heads, head_dim], 4-byte aligned
  CacheRows cache;
  RopeRotation rope;
  int rows;
  int heads;
  int kv_heads;
};

// A warp for each head of a row: blockIdx.x is the row, blockIdx.y * 4 + warp the head. A lane
// takes up to kPairs pairs of channels.
template <int kPairs>
__global__ void __launch_bounds__(kNormRopeThreads) norm_rope_write(NormRopeWriteParams params) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int row = static_cast<int>(blockIdx.x);
  const int head =
      static_cast<int>(blockIdx.y) * (kNormRopeThreads / 32) + static_cast<int>(threadIdx.x) / 32;
  const int heads = params.heads, kv_heads = params.kv_heads, head_dim = params.cache.head_dim;
  if (head >= heads + 2 * kv_heads) return;
  const float* x =
      params.qkv + (static_cast<std::size_t>(row) * (heads + 2 * kv_heads) + head) * head_dim;

  const bool is_value = head >= heads + kv_heads;
  const bool is_split = params.rope.is_split && !is_value;
  float2 v[kPairs];
  float squares = 0.0f;
#pragma unroll
  for (int i = 0; i < kPairs; ++i) {
    const int p = lane + 32 * i;
    v[i] = make_float2(0.0f, 0.0f);
    if (2 * p >= head_dim) continue;
    const ChannelPair channels = rope_pair(p, params.rope.rotated, is_split);
    v[i] = make_float2(x[channels.first], x[channels.second]);
    squares = fmaf(v[i].x, v[i].x, squares);
    squares = fmaf(v[i].y, v[i].y, squares);
  }
  for (int distance = 1; distance < 32; distance *= 2) {
    squares += __shfl_xor_sync(0xffffffffu, squares, distance);
  }
  const float factor = 1.0f / sqrtf(squares / static_cast<float>(head_dim) + params.epsilon);

  __half* const out =
      is_value        ? params.cache.token(row, params.cache.value_tile(head - heads - kv_heads))
      : head >= heads ? params.cache.token(row, params.cache.key_tile(head - heads))
                      : params.q + (static_cast<std::size_t>(row) * heads + head) * head_dim;
  const float2* const cos_sin = params.rope.at(__ldg(params.cache.positions + row));
  const float* const weight = head >= heads ? params.k_weight : params.q_weight;
#pragma unroll
  for (int i = 0; i < kPairs; ++i) {
    const int p = lane + 32 * i;
    if (2 * p >= head_dim) continue;
    const ChannelPair channels = rope_pair(p, params.rope.rotated, is_split);
    if (!is_value) {
      v[i].x = __fmul_rn(__fmul_rn(v[i].x, factor), __ldg(weight + channels.first));
      v[i].y = __fmul_rn(__fmul_rn(v[i].y, factor), __ldg(weight + channels.second));
      if (2 * p < params.rope.rotated) v[i] = rotate(v[i], __ldg(cos_sin + p));
    }
    store_pair(out, channels, v[i]);
  }
}

}  // namespace kernels
}  // namespace kvferry
