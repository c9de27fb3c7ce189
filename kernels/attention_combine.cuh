// What follows split_attention: one result of its partitions, as the input of a product or as a
// kernel of its own.
//
// The order of a value's arithmetic, in F32: M = the largest maximum; over the partitions,
// ascending, d = 2^(maximum - M), sum = fma(partition's sum, d, sum), value = fma(partition's
// value, d, value), both from 0; out = value / sum.
#pragma once

#include <cstddef>
#include <cstdint>

#include <cuda_runtime.h>

#include "kernels/attention.cuh"
#include "kernels/ptx.cuh"

namespace kvferry {
namespace kernels {

// Columns `column` to `column` + 3 of a row, column a multiple of 4.
__device__ inline float4 four_inputs(const CombinedAttention& input, int row, int column) {
  const std::uint32_t dim = static_cast<std::uint32_t>(column) % input.head_dim;
  const std::uint32_t head = static_cast<std::uint32_t>(column) / input.head_dim;
  const std::uint32_t partitions = input.positions[row] / kPartitionTokens + 1;
  const std::size_t first =
      static_cast<std::size_t>(row) * input.partials.partitions * input.heads + head;
  const float2* const weights = input.partials.weights + first;
  const float* const values = input.partials.values + first * input.head_dim + dim;
  float maximum = weights[0].x;
  for (std::uint32_t p = 1; p < partitions; ++p) {
    maximum = fmaxf(maximum, weights[static_cast<std::size_t>(p) * input.heads].x);
  }
  float sum = 0.0f;
  float4 out = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
  for (std::uint32_t p = 0; p < partitions; ++p) {
    const std::size_t at = static_cast<std::size_t>(p) * input.heads;
    const float2 weight = weights[at];
    const float4 value = *reinterpret_cast<const float4*>(values + at * input.head_dim);
    const float decay = ptx::exp2_approx(weight.x - maximum);
    sum = fmaf(weight.y, decay, sum);
    out.x = fmaf(value.x, decay, out.x);
    out.y = fmaf(value.y, decay, out.y);
    out.z = fmaf(value.z, decay, out.z);
    out.w = fmaf(value.w, decay, out.w);
  }
  return make_float4(out.x / sum, out.y / sum, out.z / sum, out.w / sum);
}

template <unsigned kThreads>
__global__ void __launch_bounds__(kThreads) combine_attention(CombineAttentionParams params) {
  const std::uint32_t column = 4 * (blockIdx.x * kThreads + threadIdx.x);
  const std::uint32_t columns = params.input.heads * params.input.head_dim;
  if (column >= columns) return;
  float* const row = params.out + static_cast<std::size_t>(blockIdx.y) * columns;
  *reinterpret_cast<float4*>(row + column) =
      four_inputs(params.input, static_cast<int>(blockIdx.y), static_cast<int>(column));
}

}  // namespace kernels
}  // namespace kvferry
