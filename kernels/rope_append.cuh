// Where Q, K and V of one token go: Q to a buffer, K and V into the caches; the rotation on the
// way.
#pragma once

#include <cstddef>
#include <cstdint>

#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include "kvferry/compute/device/gemv.hpp"

namespace kvferry {
namespace kernels {

// Offset of an element of [batch, stride].
__host__ __device__ inline std::ptrdiff_t offset_of(int vector, int stride, int row) {
  return static_cast<std::ptrdiff_t>(vector) * stride + row;
}

// To F16, cut off at its largest number; NaN stays.
__device__ inline __half cut_to_half(float value) {
  const float largest = 65504.0f;
  const float cut = fminf(fmaxf(value, -largest), largest);
  return __float2half_rn(value != value ? value : cut);
}

// One value of pair `pair` at `position`, rotated: a cos - b sin of the first, b cos + a sin of the
// second.
__device__ inline float rotated(const RopeAppend& output, int position, int pair, bool is_second,
                                float value, float partner) {
  const float* angle = output.angles + 2 * offset_of(position, output.pairs, pair);
  const float along = value * __ldg(angle), across = partner * __ldg(angle + 1);
  return is_second ? along + across : along - across;
}

// Stores value `element` of head `head`: Q's heads, then K's, then V's.
__device__ inline void store_head_value(const RopeAppend& output, int vector, int position,
                                        int head, int element, float value) {
  const int head_dim = 1 << output.head_bits;
  if (head < output.heads) {
    output.q[offset_of(vector, output.q_stride, head * head_dim + element)] = value;
    return;
  }
  const KvCacheLayer& cache = output.cache;
  const bool is_v = head >= output.heads + output.kv_heads;
  const int kv_head = head - output.heads - (is_v ? output.kv_heads : 0);
  std::uint8_t* tile = cache.blocks[offset_of(vector, cache.blocks_stride, position / 32)] +
                       (is_v ? cache.v_offset : cache.k_offset) + kv_head * cache.tile_bytes;
  reinterpret_cast<__half*>(tile)[position % 32 * head_dim + element] = cut_to_half(value);
}

// Why `rows` values cannot be written to rows of an output; nullptr when they can.
inline const char* refusal_of_room(const float* out, int stride, int rows) {
  return out == nullptr || stride < rows ? "a row of the output has no room for the results"
                                         : nullptr;
}

// Why `rows` values cannot be Q, K and V of this output; nullptr when they can.
inline const char* refusal_of(const RopeAppend& output, int rows) {
  if (output.head_bits != 6 && output.head_bits != 7) {
    return "heads of Q, K and V have to have 64 or 128 values";
  }
  const int head_dim = 1 << output.head_bits;
  if (output.heads < 1 || output.kv_heads < 1 || rows % head_dim != 0 ||
      output.heads > rows / head_dim || output.kv_heads > rows / head_dim ||
      rows / head_dim - output.heads != 2 * output.kv_heads) {
    return "rows of Q, K and V are not those of their heads";
  }
  if (output.pairs < 0 || output.pairs > head_dim / 2 ||
      (output.pairs > 0 && output.angles == nullptr)) {
    return "a head has no more pairs to rotate than half its values";
  }
  const KvCacheLayer& cache = output.cache;
  if (cache.blocks == nullptr || cache.positions == nullptr || cache.blocks_stride < 1) {
    return "no cache for K and V";
  }
  return refusal_of_room(output.q, output.q_stride, output.heads * head_dim);
}

}  // namespace kernels
}  // namespace kvferry
