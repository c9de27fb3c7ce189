// Scores of keys against queries on CUDA cores: a lane has a key in its registers, the block the
// queries in its shared memory; half2 products are summed in short chains.
//
// A query is multiplied by the power of two that brings its largest magnitude into [1/16, 1/8),
// then rounded to F16: no chain can overflow, whatever the keys. The order of a score's arithmetic:
//   chain   16 dimensions d to d + 15: pairs (d, d + 1) multiplied in F16, then seven fused
//           multiply-adds with the next pairs, rounded to F16 each, subnormals kept
//   dot     0 + the first chain's low half + its high half + the second's low half + …, in F32
//   score   dot * factor, factor = 2^e * (scale * log2(e)): softmax weights are powers of 2 of it
#pragma once

#include <cstdint>

#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include "kernels/attention.cuh"
#include "kernels/half2_bits.cuh"

namespace kvferry {
namespace kernels {

template <int kHeadDim>
struct KeyRow {
  uint4 chunks[kHeadDim / 8];
};

template <int kHeadDim>
__device__ KeyRow<kHeadDim> load_key(const uint4* row) {
  KeyRow<kHeadDim> key;
#pragma unroll
  for (int i = 0; i < kHeadDim / 8; ++i) key.chunks[i] = __ldg(row + i);
  return key;
}

// A query as it is staged in shared memory.
template <int kHeadDim>
struct StagedQuery {
  uint4 chunks[kHeadDim / 8];
};

__device__ inline float warp_maximum(float value) {
  for (int distance = 16; distance > 0; distance /= 2) {
    value = fmaxf(value, __shfl_xor_sync(0xffffffffu, value, distance));
  }
  return value;
}
// Of 32 lanes as a butterfly, the distant ones first: the same bits in every lane.
__device__ inline float warp_sum(float value) {
  for (int distance = 16; distance > 0; distance /= 2) {
    value += __shfl_xor_sync(0xffffffffu, value, distance);
  }
  return value;
}

__device__ inline float2 load_pair(const float* pair) {
  return *reinterpret_cast<const float2*>(pair);
}
__device__ inline float2 load_pair(const __half* pair) {
  return __half22float2(*reinterpret_cast<const __half2*>(pair));
}

// A warp stages one query, [kHeadDim] after RoPE. Returns 2^e, by which its scores are too small.
// Magnitudes outside [2^-100, 2^101) are taken as being at the end of that range.
template <int kHeadDim, typename Query>
__device__ float stage_query(const Query* query, StagedQuery<kHeadDim>& staged) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  float2 pairs[kHeadDim / 64];
  float largest = 0.0f;
#pragma unroll
  for (int i = 0; i < kHeadDim / 64; ++i) {
    pairs[i] = load_pair(query + 2 * (lane + 32 * i));
    largest = fmaxf(largest, fmaxf(fabsf(pairs[i].x), fabsf(pairs[i].y)));
  }
  largest = warp_maximum(largest);
  const int field = static_cast<int>(__float_as_uint(largest) >> 23);  // exponent + 127
  const int exponent = field < 27 ? 27 : field > 227 ? 227 : field;
  const float scale = __uint_as_float(static_cast<unsigned>(250 - exponent) << 23);
  std::uint32_t* const words = reinterpret_cast<std::uint32_t*>(staged.chunks);
#pragma unroll
  for (int i = 0; i < kHeadDim / 64; ++i) {
    words[lane + 32 * i] = bits_of(__floats2half2_rn(pairs[i].x * scale, pairs[i].y * scale));
  }
  return __uint_as_float(static_cast<unsigned>(exponent + 4) << 23);
}

// The part of `chain` that 8 dimensions add.
__device__ inline __half2 add_products(const uint4& key, const uint4& query, __half2 chain) {
  chain = __hfma2(half2_from_bits(key.y), half2_from_bits(query.y), chain);
  chain = __hfma2(half2_from_bits(key.z), half2_from_bits(query.z), chain);
  return __hfma2(half2_from_bits(key.w), half2_from_bits(query.w), chain);
}

template <int kHeadDim>
__device__ float dot(const KeyRow<kHeadDim>& key, const StagedQuery<kHeadDim>& query) {
  float sum = 0.0f;
#pragma unroll
  for (int i = 0; i < kHeadDim / 8; i += 2) {
    const uint4 first = query.chunks[i], second = query.chunks[i + 1];
    __half2 chain = __hmul2(half2_from_bits(key.chunks[i].x), half2_from_bits(first.x));
    chain = add_products(key.chunks[i], first, chain);
    chain = __hfma2(half2_from_bits(key.chunks[i + 1].x), half2_from_bits(second.x), chain);
    chain = add_products(key.chunks[i + 1], second, chain);
    sum += __low2float(chain);
    sum += __high2float(chain);
  }
  return sum;
}

}  // namespace kernels
}  // namespace kvferry
