// Inputs of INT8 matrix products: rows are normalised, rotated by blocks and quantised per row,
// in registers from the load to the store.
//
//   v = x * norm weight (where there is a norm), then hadamard() by blocks
//   m = largest |v|;  quant = v * (127 / m) to the nearest, ties to even: within [-127, 127]
//   scale = (m * (1 / (127 * sqrt(block)))) * (1 / sqrt(mean(x^2) + epsilon))
// so that quant * scale is the rotated normalised value: what is common to the row goes into its
// scale, and squares and magnitudes are reduced at one barrier.
//
// A row whose m is below 2^-120 has quants and scale 0. A row with a NaN or an infinity, in x, in v
// or in the sum of squares, has quants 0 and the scale NaN, so that whatever is computed from it is
// NaN.
//
// The sum of squares: thread t of T takes columns 8 (c T + t) to + 7 for c = 0, 1, …, one after the
// other with fma; the threads of a warp are added as a butterfly, neighbours first; then the warps
// in their order, from 0. The launcher takes as few chunks c (1, 2, 4 or 8) as 256 threads can do
// with, and then as few warps.
#pragma once

#include <cfloat>
#include <cstddef>
#include <cstdint>

#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include "kernels/hadamard.cuh"
#include "kernels/shared_storage.cuh"

namespace kvferry {
namespace kernels {

constexpr int kRotateMaxThreads = 256;
constexpr int kRotateMaxChunks = 8;
constexpr int kRotateMaxColumns = kRotateMaxThreads * kRotateMaxChunks * kHadamardValues;
constexpr float kRotateSmallest = 7.52316385e-37f;  // 2^-120

// Where rows come from. load() gives four neighbours, columns [column, column + 4) of a row that
// begins at `row`; kHasNorm says whether it adds their squares, and factor() is then what a row
// with such a sum is multiplied by.

struct FloatRows {
  static constexpr bool kHasNorm = false;
  const float* x;  // [rows, columns], 16-byte aligned

  __device__ void load(std::size_t row, int column, float* v, float&) const {
    const float4 four = *reinterpret_cast<const float4*>(x + row + column);
    v[0] = four.x, v[1] = four.y, v[2] = four.z, v[3] = four.w;
  }
  __device__ float factor(float, int) const { return 1.0f; }
};

struct HalfRows {
  static constexpr bool kHasNorm = false;
  const __half* x;  // [rows, columns], 8-byte aligned

  __device__ void load(std::size_t row, int column, float* v, float&) const {
    const uint2 four = *reinterpret_cast<const uint2*>(x + row + column);
    const float2 low = __half22float2(*reinterpret_cast<const __half2*>(&four.x));
    const float2 high = __half22float2(*reinterpret_cast<const __half2*>(&four.y));
    v[0] = low.x, v[1] = low.y, v[2] = high.x, v[3] = high.y;
  }
  __device__ float factor(float, int) const { return 1.0f; }
};

struct NormedRows {
  static constexpr bool kHasNorm = true;
  const float* x;       // [rows, columns], 16-byte aligned
  const float* weight;  // [columns], 16-byte aligned
  float epsilon;

  __device__ void load(std::size_t row, int column, float* v, float& squares) const {
    const float4 four = *reinterpret_cast<const float4*>(x + row + column);
    const float4 w = __ldg(reinterpret_cast<const float4*>(weight + column));
    squares = fmaf(four.x, four.x, squares);
    squares = fmaf(four.y, four.y, squares);
    squares = fmaf(four.z, four.z, squares);
    squares = fmaf(four.w, four.w, squares);
    // Not `*`: the sums of hadamard() must not become fused with it.
    v[0] = __fmul_rn(four.x, w.x), v[1] = __fmul_rn(four.y, w.y);
    v[2] = __fmul_rn(four.z, w.z), v[3] = __fmul_rn(four.w, w.w);
  }
  __device__ float factor(float squares, int columns) const {
    return 1.0f / sqrtf(squares / static_cast<float>(columns) + epsilon);
  }
};

// Rows of quants and their scales.
struct QuantizedRows {
  std::int8_t* quants;  // [rows, padded_columns(columns)], 8-byte aligned; zeros past `columns`
  float* scales;        // [rows]
};

template <typename Input>
struct RotateQuantizeParams {
  Input input;
  QuantizedRows out;
  int columns;  // a multiple of 4
  int padded;   // padded_columns(columns)
  int block;    // of the rotation: divides columns
  float unit;   // 1 / (127 sqrt(block))
};

struct RotateQuantizeShared {
  float squares[kRotateMaxThreads / 32];
  std::uint32_t largest[kRotateMaxThreads / 32];
};

// One row a block, blockIdx.x; whole warps, kChunks * blockDim.x * 8 >= columns.
template <typename Input, int kChunks>
__global__ void __launch_bounds__(kRotateMaxThreads)
    rotate_quantize(RotateQuantizeParams<Input> params) {
  const int thread = static_cast<int>(threadIdx.x), threads = static_cast<int>(blockDim.x);
  const std::size_t row = blockIdx.x;

  float v[kChunks][kHadamardValues];
  float squares = 0.0f;
  // Magnitudes as the bits of floats, among which a NaN is the largest.
  std::uint32_t largest = 0;
#pragma unroll
  for (int c = 0; c < kChunks; ++c) {
    const int column = (c * threads + thread) * kHadamardValues;
#pragma unroll
    for (int first = 0; first < kHadamardValues; first += 4) {
      v[c][first] = v[c][first + 1] = v[c][first + 2] = v[c][first + 3] = 0.0f;
      if (column + first < params.columns) {
        params.input.load(row * params.columns, column + first, v[c] + first, squares);
      }
    }
    hadamard(v[c], params.block);
#pragma unroll
    for (int i = 0; i < kHadamardValues; ++i) {
      largest = max(largest, __float_as_uint(fabsf(v[c][i])));
    }
  }

  RotateQuantizeShared& shared = shared_storage<RotateQuantizeShared>();
  for (int distance = 1; distance < 32; distance *= 2) {
    largest = max(largest, __shfl_xor_sync(0xffffffffu, largest, distance));
    if (Input::kHasNorm) squares += __shfl_xor_sync(0xffffffffu, squares, distance);
  }
  if (thread % 32 == 0) {
    shared.largest[thread / 32] = largest;
    if (Input::kHasNorm) shared.squares[thread / 32] = squares;
  }
  __syncthreads();
  squares = 0.0f;
  for (int warp = 0; warp < threads / 32; ++warp) {
    largest = max(largest, shared.largest[warp]);
    if (Input::kHasNorm) squares += shared.squares[warp];
  }

  const float magnitude = __uint_as_float(largest);
  const bool is_finite = magnitude <= FLT_MAX && squares <= FLT_MAX;
  const bool is_zero = !(is_finite && magnitude >= kRotateSmallest);
  if (thread == 0) {
    const float factor = params.input.factor(squares, params.columns);
    const float scale = is_zero ? 0.0f : magnitude * params.unit * factor;
    params.out.scales[row] = is_finite ? scale : __uint_as_float(0x7fc00000u);
  }
  const float inverse = 127.0f / magnitude;
#pragma unroll
  for (int c = 0; c < kChunks; ++c) {
    const int column = (c * threads + thread) * kHadamardValues;
    if (column >= params.padded) return;
    uint2 quants = make_uint2(0, 0);
    if (!is_zero) {
#pragma unroll
      for (int i = 0; i < kHadamardValues; ++i) {
        const unsigned quant = static_cast<unsigned>(__float2int_rn(v[c][i] * inverse)) & 255u;
        (i < 4 ? quants.x : quants.y) |= quant << (8 * (i % 4));
      }
    }
    *reinterpret_cast<uint2*>(params.out.quants + row * params.padded + column) = quants;
  }
}

}  // namespace kernels
}  // namespace kvferry
