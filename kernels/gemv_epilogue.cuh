// What matrix-vector products do with their results.
//
// write() is called once an octet by the whole warp, lane l with row l % 8 of the octet and vector
// l / 8; nothing is stored where `is_valid` is false.
#pragma once

#include <cstddef>

#include <cuda_runtime.h>

#include "kvferry/compute/device/gemv.hpp"

#include "kernels/rope_append.cuh"

namespace kvferry {
namespace kernels {

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

__device__ inline void write(const RopeAppend& output, int vector, int row, float value,
                             bool is_valid) {
  const int head = row >> output.head_bits, head_dim = 1 << output.head_bits;
  const int row_of_head = row & (head_dim - 1);
  const bool is_v = head >= output.heads + output.kv_heads;
  const int element = is_v ? row_of_head : paired_row(row_of_head, output.pairs, output.is_split);
  if (is_valid && output.bias != nullptr) value += __ldg(output.bias + head * head_dim + element);
  const float partner = __shfl_xor_sync(0xffffffffu, value, 1);
  if (!is_valid) return;
  const int position = output.cache.positions[vector];
  if (!is_v && row_of_head < 2 * output.pairs) {
    value = rotated(output, position, row_of_head / 2, row_of_head % 2 != 0, value, partner);
  }
  store_head_value(output, vector, position, head, element, value);
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

inline const char* refusal_of(const StoreOutput& output, int rows) {
  return refusal_of_room(output.out, output.stride, rows);
}
inline const char* refusal_of(const AddResidual& output, int rows) {
  return refusal_of_room(output.hidden, output.stride, rows);
}
inline const char* refusal_of(const SwiGlu& output, int rows) {
  if (rows % 2 != 0) return "gate and up have to have as many rows";
  return refusal_of_room(output.out, output.stride, rows / 2);
}

}  // namespace kernels
}  // namespace kvferry
