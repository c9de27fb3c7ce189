// The input vectors of a matrix-vector product: computed from F32 rows by every block for itself,
// kept in its shared memory as half2.
//
// Each group of 32 inputs is multiplied by a power of two of its own, so that the largest is in
// [2^(t - 1), 2^t), and then rounded to F16: nothing is lost that F16 can hold, and products with
// weights that are F16 subnormals are normal numbers.
#pragma once

#include <cstddef>
#include <cstdint>

#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include "kvferry/compute/device/gemv.hpp"

#include "kernels/gemv_formats.cuh"

namespace kvferry {
namespace kernels {

constexpr int kGemvThreads = 256;
constexpr int kGemvWarps = kGemvThreads / 32;

// Four groups of inputs: eight halves, 16 bytes, of each of the four next to each other, so that a
// warp's loads meet no bank twice. Natural order: group g's column 8 c + i is x[c][g], half i.
struct alignas(16) InputQuad {
  uint4 x[4][4];
  GroupTerms terms[4];
};

// What a block keeps in shared memory; the quads of the first vector, [ceil(columns / 128)], then
// those of the next, follow it.
struct alignas(16) GemvShared {
  float partial[kGemvWarps];
};

constexpr std::size_t gemv_shared_bytes(int batch, int columns) {
  return sizeof(GemvShared) + static_cast<std::size_t>(batch) *
                                  static_cast<std::size_t>((columns + 127) / 128) *
                                  sizeof(InputQuad);
}

// input_scale(): by what a row's inputs are multiplied; every thread of the block calls it.
// four_inputs(): inputs `column` to `column` + 3 of a row.

__device__ inline float4 four_floats(const float* x, int stride, int row, int column) {
  return *reinterpret_cast<const float4*>(x + static_cast<std::ptrdiff_t>(row) * stride + column);
}

__device__ inline float input_scale(const PlainInput&, int, int, GemvShared&) {
  return 1.0f;
}
__device__ inline float4 four_inputs(const PlainInput& input, int row, int column, float) {
  return four_floats(input.x, input.stride, row, column);
}

// 1 / sqrt(mean(x^2) + epsilon). Thread t adds the squares of columns 4 t to 4 t + 3, then those
// 4 * 256 columns further, one after the other with fma; the threads of a warp are added as a
// butterfly, neighbours first; then the warps in their order.
__device__ inline float input_scale(const NormInput& input, int row, int columns,
                                    GemvShared& shared) {
  const int thread = static_cast<int>(threadIdx.x);
  float sum = 0.0f;
  for (int column = 4 * thread; column < columns; column += 4 * kGemvThreads) {
    const float4 v = four_floats(input.x, input.stride, row, column);
    sum = fmaf(v.x, v.x, sum);
    sum = fmaf(v.y, v.y, sum);
    sum = fmaf(v.z, v.z, sum);
    sum = fmaf(v.w, v.w, sum);
  }
  for (int distance = 1; distance < 32; distance *= 2) {
    sum += __shfl_xor_sync(0xffffffffu, sum, distance);
  }
  if (thread % 32 == 0) shared.partial[thread / 32] = sum;
  __syncthreads();
  sum = 0.0f;
  for (int warp = 0; warp < kGemvWarps; ++warp) sum += shared.partial[warp];
  __syncthreads();  // the next row writes `partial` again
  return 1.0f / sqrtf(sum / static_cast<float>(columns) + input.epsilon);
}
// x * scale * weight.
__device__ inline float4 four_inputs(const NormInput& input, int row, int column, float scale) {
  const float4 v = four_floats(input.x, input.stride, row, column);
  const float4 w = __ldg(reinterpret_cast<const float4*>(input.weight + column));
  return make_float4(v.x * scale * w.x, v.y * scale * w.y, v.z * scale * w.z, v.w * scale * w.w);
}

// The power of two that brings a group's largest magnitude into [2^(t - 1), 2^t), and its inverse.
// Magnitudes outside [2^-97, 2^104) are taken as being at the end of that range.
struct GroupScale {
  float scale;
  float inverse;
};
__device__ inline GroupScale group_scale(float largest, int t) {
  const int field = static_cast<int>(__float_as_uint(largest) >> 23);  // exponent + 127
  const int exponent = min(max(field, 30), 230);
  return {__uint_as_float(static_cast<unsigned>(253 + t - exponent) << 23),
          __uint_as_float(static_cast<unsigned>(exponent + 1 - t) << 23)};
}

// Fills the quads of all vectors. Every thread of the block calls it; a barrier has to follow.
// Eight threads share a group, four columns each. A group's sum is that of its inputs as they are
// held: ((x0 + x1) + (x2 + x3)) of each thread, then a butterfly, neighbours first.
template <typename Format, int kBatch, typename Input>
__device__ void stage_input(const Input& input, int columns, int input_exponent, GemvShared& shared,
                            InputQuad* quads) {
  const int count = (columns + 127) / 128;
  const int thread = static_cast<int>(threadIdx.x);
  for (int row = 0; row < kBatch; ++row) {
    const float scale = input_scale(input, row, columns, shared);
    // Whole warps leave the loop together: a quad is 32 threads' work.
    for (int four = thread; four < 32 * count; four += kGemvThreads) {
      float4 v = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
      if (4 * four < columns) v = four_inputs(input, row, 4 * four, scale);
      float largest = fmaxf(fmaxf(fabsf(v.x), fabsf(v.y)), fmaxf(fabsf(v.z), fabsf(v.w)));
      for (int distance = 1; distance < 8; distance *= 2) {
        largest = fmaxf(largest, __shfl_xor_sync(0xffffffffu, largest, distance));
      }
      const GroupScale group = group_scale(largest, input_exponent);
      const float second = group.scale * Format::kSecondPair;
      const __half2 a = __floats2half2_rn(v.x * group.scale, v.y * group.scale);
      const __half2 b = __floats2half2_rn(v.z * second, v.w * second);
      InputQuad& quad = quads[row * count + four / 32];
      const int index = four / 8 % 4, chunk = four / 2 % 4;
      __half2* to = reinterpret_cast<__half2*>(&quad.x[chunk][index]) + four % 2 * 2;
      to[0] = a;
      to[1] = b;
      float sum = 0.0f;
      if (Format::kSumFactor != 0.0f) {
        const float inverse = 1.0f / Format::kSecondPair;
        sum = (__low2float(a) + __high2float(a)) +
              (__low2float(b) * inverse + __high2float(b) * inverse);
        for (int distance = 1; distance < 8; distance *= 2) {
          sum += __shfl_xor_sync(0xffffffffu, sum, distance);
        }
      }
      if (four % 8 == 0) {
        quad.terms[index] = {group.inverse * Format::kInverseUnit,
                             sum * group.inverse * Format::kSumFactor};
      }
    }
  }
}

}  // namespace kernels
}  // namespace kvferry
