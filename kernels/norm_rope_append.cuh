// Q and K of models that norm each head (qwen3): RMSNorm of the head, rotation, and Q, K and V to
// their places, from the rows that a product left.
//
// A warp takes a head of a vector. Lane l adds the squares of values l, l + 32, … with fma, then
// the lanes are added as a butterfly, neighbours first.
#pragma once

#include <cstddef>
#include <string>

#include <cuda_runtime.h>

#include "kvferry/compute/device/gemv.hpp"

#include "kernels/launch.cuh"
#include "kernels/launch_status.cuh"
#include "kernels/rope_append.cuh"
#include "kernels/shared_storage.cuh"

namespace kvferry {
namespace kernels {

constexpr int kHeadWarps = 8;  // heads of a block
constexpr int kMostHeadValues = 128;

struct HeadsShared {
  float values[kHeadWarps][kMostHeadValues];
};

struct NormRopeAppendParams {
  HeadRows input;
  RopeAppend output;
  int batch;
};

// Heads have 32 * kLaneValues values.
template <int kLaneValues>
__global__ void __launch_bounds__(32 * kHeadWarps) norm_rope_append(NormRopeAppendParams params) {
  HeadsShared& shared = shared_storage<HeadsShared>();
  const RopeAppend& output = params.output;
  const int warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32;
  const int all_heads = output.heads + 2 * output.kv_heads;
  const int item = static_cast<int>(blockIdx.x) * kHeadWarps + warp;
  if (item >= params.batch * all_heads) return;  // a whole warp
  const int vector = item / all_heads, head = item % all_heads;
  constexpr int kHeadDim = 32 * kLaneValues;
  const float* row = params.input.x + offset_of(vector, params.input.stride, head * kHeadDim);
  const int position = output.cache.positions[vector];

  float values[kLaneValues];
  float squares = 0.0f;
#pragma unroll
  for (int i = 0; i < kLaneValues; ++i) {
    values[i] = row[lane + 32 * i];
    squares = fmaf(values[i], values[i], squares);
  }
  if (head >= output.heads + output.kv_heads) {  // V is neither normed nor rotated
#pragma unroll
    for (int i = 0; i < kLaneValues; ++i) {
      store_head_value(output, vector, position, head, lane + 32 * i, values[i]);
    }
    return;
  }
  for (int distance = 1; distance < 32; distance *= 2) {
    squares += __shfl_xor_sync(0xffffffffu, squares, distance);
  }
  const float scale = 1.0f / sqrtf(squares / static_cast<float>(kHeadDim) + params.input.epsilon);
  const float* weight = head < output.heads ? params.input.q_norm : params.input.k_norm;
  float* normed = shared.values[warp];
#pragma unroll
  for (int i = 0; i < kLaneValues; ++i) {
    values[i] = values[i] * scale * __ldg(weight + lane + 32 * i);
    normed[lane + 32 * i] = values[i];
  }
  __syncwarp();
#pragma unroll
  for (int i = 0; i < kLaneValues; ++i) {
    const int element = lane + 32 * i;
    float value = values[i];
    if (element < 2 * output.pairs) {
      const bool is_second = output.is_split ? element >= output.pairs : element % 2 != 0;
      const int apart = is_second ? -output.pairs : output.pairs;
      const int partner = output.is_split ? element + apart : element ^ 1;
      const int pair = output.is_split ? min(element, partner) : element / 2;
      value = rotated(output, position, pair, is_second, value, normed[partner]);
    }
    store_head_value(output, vector, position, head, element, value);
  }
}

// Starts it for `batch` vectors; the rows' bias has been added, the output's is not looked at.
inline LaunchStatus launch_norm_rope_append_of(const HeadRows& input, const RopeAppend& output,
                                               int batch, cudaStream_t stream) {
  constexpr int kMost = 1 << 16;
  if (batch < 1 || batch > kMost || output.heads < 1 || output.heads > kMost ||
      output.kv_heads < 1 || output.kv_heads > kMost) {
    return invalid_launch("norm_rope_append: no vectors or no heads, or more than 65536");
  }
  const int all_heads = output.heads + 2 * output.kv_heads;
  const int rows = all_heads << (output.head_bits & 7);
  if (const char* reason = refusal_of(output, rows))
    return invalid_launch(std::string("norm_rope_append: ") + reason);
  if (input.x == nullptr || input.stride < rows || input.q_norm == nullptr ||
      input.k_norm == nullptr) {
    return invalid_launch(
        "norm_rope_append: rows of Q, K and V, or the weights of their norms, are missing");
  }
  const NormRopeAppendParams params = {input, output, batch};
  const unsigned blocks = static_cast<unsigned>((batch * all_heads + kHeadWarps - 1) / kHeadWarps);
  const LaunchShape shape = {dim3(blocks), dim3(32 * kHeadWarps), sizeof(HeadsShared), stream};
  return launched(output.head_bits == 6 ? launch(shape, norm_rope_append<2>, params)
                                        : launch(shape, norm_rope_append<4>, params),
                  "norm_rope_append");
}

}  // namespace kernels
}  // namespace kvferry
