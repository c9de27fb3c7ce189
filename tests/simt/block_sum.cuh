// block_sum: a kernel of the tests' own, on which the emulation and mutations.py are shown to work.
#pragma once

#include <cuda_runtime.h>

#include "kernels/launch.cuh"
#include "kernels/shared_storage.cuh"

namespace kvferry_test {

struct BlockSumParams {
  const float* values;  // [blocks, row]
  float* sums;          // [blocks]
  unsigned row;
};

template <int kThreads>
struct BlockSumShared {
  float of_warps[kThreads / 32];
};

// The sum of each row of values, a block a row.
template <int kThreads>
__global__ void __launch_bounds__(kThreads) block_sum(BlockSumParams params) {
  auto& shared = kvferry::kernels::shared_storage<BlockSumShared<kThreads>>();
  const float* row = params.values + std::size_t{blockIdx.x} * params.row;
  float sum = 0.0f;
  for (unsigned i = threadIdx.x; i < params.row; i += kThreads) sum += row[i];
  for (int distance = 16; distance > 0; distance /= 2) {
    sum += __shfl_xor_sync(0xffffffffu, sum, distance);
  }
  if (threadIdx.x % 32 == 0) shared.of_warps[threadIdx.x / 32] = sum;
  __syncthreads();
  if (threadIdx.x == 0) {
    float total = 0.0f;
    for (int warp = 0; warp < kThreads / 32; ++warp) total += shared.of_warps[warp];
    params.sums[blockIdx.x] = total;
  }
}

inline cudaError_t launch_block_sum(const BlockSumParams& params, unsigned blocks,
                                    cudaStream_t stream) {
  constexpr int kThreads = 128;
  const kvferry::kernels::LaunchShape shape = {blocks, kThreads, sizeof(BlockSumShared<kThreads>),
                                               stream};
  return kvferry::kernels::launch(shape, &block_sum<kThreads>, params);
}

}  // namespace kvferry_test
