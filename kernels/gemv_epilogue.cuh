// What matrix-vector products do with their results.
//
// write() is called once an octet by the whole warp, lane l with row l % 8 of the octet and vector
// l / 8; nothing is stored where `is_valid` is false.
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

// e^x for x <= 0, to within 2 ulp; 0 below -87. Plain operations in the order written, so that any
// machine gives the same bits.
__device__ inline float exponential(float x) {
  if (!(x >= -87.0f)) return x != x ? x : 0.0f;
  const float n = rintf(x * 1.44269504f);
  // x - n ln 2, with ln 2 in two parts, the first of so few bits that n times it is exact.
  float r = fmaf(n, -0.693359375f, x);
  r = fmaf(n, 2.12194440e-4f, r);
  float p = 1.98756912e-4f;
  p = fmaf(p, r, 1.39819994e-3f);
  p = fmaf(p, r, 8.33345205e-3f);
  p = fmaf(p, r, 4.16657962e-2f);
  p = fmaf(p, r, 1.66666657e-1f);
  p = fmaf(p, r, 0.5f);
  p = fmaf(p, r * r, r) + 1.0f;
  return p * __int_as_float((static_cast<int>(n) + 127) << 23);
}

// x / (1 + e^-x), from the exponential that cannot overflow.
__device__ inline float silu(float x) {
  const float e = exponential(-fabsf(x));
  return (x < 0.0f ? x * e : x) / (1.0f + e);
}

__device__ inline void write(const StoreOutput& output, int vector, int row, float value,
                             bool is_valid) {
  if (!is_valid) return;
  if (output.bias != nullptr) value += __ldg(output.bias + row);
  output.out[offset_of(vector, output.stride, row)] = value;
}

__device__ inline void write(const AddResidual& output, int vector, int row, float value,
                             bool is_valid) {
  if (is_valid) output.hidden[offset_of(vector, output.stride, row)] += value;
}

__device__ inline void write(const SwiGlu& output, int vector, int row, float value,
                             bool is_valid) {
  const float up = __shfl_xor_sync(0xffffffffu, value, 1);
  if (is_valid && row % 2 == 0) {
    output.out[offset_of(vector, output.stride, row / 2)] = silu(value) * up;
  }
}

// To F16, cut off at its largest number; NaN stays.
__device__ inline __half cut_to_half(float value) {
  const float largest = 65504.0f;
  const float cut = fminf(fmaxf(value, -largest), largest);
  return __float2half_rn(value != value ? value : cut);
}

__device__ inline void write(const RopeAppend& output, int vector, int row, float value,
                             bool is_valid) {
  const int head = row >> output.head_bits, head_dim = 1 << output.head_bits;
  const int row_of_head = row & (head_dim - 1);
  const bool is_v = head >= output.heads + output.kv_heads;
  const int element = is_v ? row_of_head : paired_row(row_of_head, output.pairs, output.is_split);
  if (is_valid && output.bias != nullptr) value += __ldg(output.bias + head * head_dim + element);
  const float partner = __shfl_xor_sync(0xffffffffu, value, 1);
  if (!is_valid) return;
  const KvCacheLayer& cache = output.cache;
  const int position = cache.positions[vector];
  if (!is_v && row_of_head < 2 * output.pairs) {
    const std::ptrdiff_t pair = offset_of(position, output.pairs, row_of_head / 2);
    const float cosine = __ldg(output.angles + 2 * pair);
    const float sine = __ldg(output.angles + 2 * pair + 1);
    value = row % 2 == 0 ? value * cosine - partner * sine : value * cosine + partner * sine;
  }
  if (head < output.heads) {
    output.q[offset_of(vector, output.q_stride, head * head_dim + element)] = value;
    return;
  }
  const int kv_head = head - output.heads - (is_v ? output.kv_heads : 0);
  std::uint8_t* tile = cache.blocks[offset_of(vector, cache.blocks_stride, position / 32)] +
                       (is_v ? cache.v_offset : cache.k_offset) + kv_head * cache.tile_bytes;
  reinterpret_cast<__half*>(tile)[position % 32 * head_dim + element] = cut_to_half(value);
}

// The same from vector `first` on.
inline StoreOutput advanced(const StoreOutput& output, int first) {
  return {output.out + offset_of(first, output.stride, 0), output.stride, output.bias};
}
inline AddResidual advanced(const AddResidual& output, int first) {
  return {output.hidden + offset_of(first, output.stride, 0), output.stride};
}
inline SwiGlu advanced(const SwiGlu& output, int first) {
  return {output.out + offset_of(first, output.stride, 0), output.stride};
}
inline RopeAppend advanced(RopeAppend output, int first) {
  output.q += offset_of(first, output.q_stride, 0);
  output.cache.blocks += offset_of(first, output.cache.blocks_stride, 0);
  output.cache.positions += first;
  return output;
}

// Why so many rows cannot be written; nullptr when they can.
inline const char* refusal_of_room(const float* out, int stride, int rows) {
  return out == nullptr || stride < rows
             ? "matrix-vector product: a row of the output has no room for the results"
             : nullptr;
}
inline const char* refusal_of(const StoreOutput& output, int rows) {
  return refusal_of_room(output.out, output.stride, rows);
}
inline const char* refusal_of(const AddResidual& output, int rows) {
  return refusal_of_room(output.hidden, output.stride, rows);
}
inline const char* refusal_of(const SwiGlu& output, int rows) {
  if (rows % 2 != 0) return "matrix-vector product: gate and up have to have as many rows";
  return refusal_of_room(output.out, output.stride, rows / 2);
}

inline const char* refusal_of(const RopeAppend& output, int rows) {
  if (output.head_bits != 6 && output.head_bits != 7) {
    return "matrix-vector product: heads of Q, K and V have to have 64 or 128 values";
  }
  const int head_dim = 1 << output.head_bits;
  if (output.heads < 1 || output.kv_heads < 1 || rows % head_dim != 0 ||
      rows / head_dim - output.heads != 2 * output.kv_heads) {
    return "matrix-vector product: rows of Q, K and V are not those of their heads";
  }
  if (output.pairs < 0 || output.pairs > head_dim / 2 ||
      (output.pairs > 0 && output.angles == nullptr)) {
    return "matrix-vector product: a head has no more pairs to rotate than half its values";
  }
  const KvCacheLayer& cache = output.cache;
  if (cache.blocks == nullptr || cache.positions == nullptr || cache.blocks_stride < 1) {
    return "matrix-vector product: no cache for K and V";
  }
  return refusal_of_room(output.q, output.q_stride, output.heads * head_dim);
}

}  // namespace kernels
}  // namespace kvferry
