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

// Four dimensions of one head's attention, dim a multiple of 4.
__device__ inline float4 combined_attention(const AttentionPartials& partials, std::uint32_t heads,
                                            std::uint32_t head_dim, std::uint32_t sequence,
                                            std::uint32_t position, std::uint32_t head,
                                            std::uint32_t dim) {
  const std::uint32_t used = position / kPartitionTokens + 1;
  const std::size_t first = static_cast<std::size_t>(sequence) * partials.partitions * heads + head;
  const float2* const weights = partials.weights + first;
  const float* const values = partials.values + first * head_dim + dim;
  float maximum = weights[0].x;
  for (std::uint32_t p = 1; p < used; ++p) {
    maximum = fmaxf(maximum, weights[static_cast<std::size_t>(p) * heads].x);
  }
  float sum = 0.0f;
  float4 out = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
  for (std::uint32_t p = 0; p < used; ++p) {
    const std::size_t at = static_cast<std::size_t>(p) * heads;
    const float2 weight = weights[at];
    const float4 value = *reinterpret_cast<const float4*>(values + at * head_dim);
    const float decay = ptx::exp2_approx(weight.x - maximum);
    sum = fmaf(weight.y, decay, sum);
    out.x = fmaf(value.x, decay, out.x);
    out.y = fmaf(value.y, decay, out.y);
    out.z = fmaf(value.z, decay, out.z);
    out.w = fmaf(value.w, decay, out.w);
  }
  return make_float4(out.x / sum, out.y / sum, out.z / sum, out.w / sum);
}

// The input of the output projection, computed by every block of it for itself: row = sequence,
// column = head * head_dim + dimension.
struct CombinedAttentionInput {
  AttentionPartials partials;
  const std::uint32_t* positions;  // [sequences]
  std::uint32_t heads;
  std::uint32_t head_dim;

  template <typename Shared>
  __device__ float scale(int, int, Shared&) const {
    return 1.0f;
  }
  __device__ float4 four(int row, int column, float) const {
    const std::uint32_t sequence = static_cast<std::uint32_t>(row);
    const std::uint32_t at = static_cast<std::uint32_t>(column);
    return combined_attention(partials, heads, head_dim, sequence, positions[sequence],
                              at / head_dim, at % head_dim);
  }
};

template <unsigned kThreads>
__global__ void __launch_bounds__(kThreads) combine_attention(CombineAttentionParams params) {
  const std::uint32_t column = 4 * (blockIdx.x * kThreads + threadIdx.x);
  const std::uint32_t columns = params.heads * params.head_dim;
  if (column >= columns) return;
  const CombinedAttentionInput input = {params.partials, params.positions, params.heads,
                                        params.head_dim};
  const int sequence = static_cast<int>(blockIdx.y);
  *reinterpret_cast<float4*>(params.out + static_cast<std::size_t>(blockIdx.y) * columns + column) =
      input.four(sequence, static_cast<int>(column), 1.0f);
}

}  // namespace kernels
}  // namespace kvferry
