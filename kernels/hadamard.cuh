// The block-Hadamard rotation of values that lie in registers, eight neighbours a lane.
#pragma once

#include <cuda_runtime.h>

namespace kvferry {
namespace kernels {

constexpr int kHadamardValues = 8;  // of one lane

// v of the warp's lanes, [32 lanes, 8], taken in blocks of `block` values to H times them (see
// hadamard_block.hpp), without the factor 1 / sqrt(block). `block` is a power of two up to 256, the
// same in all lanes; every lane of the warp calls it.
//
// The order of operations: for stride = 1, 2, 4, … below `block`, values a and b that lie `stride`
// apart become a + b and a - b.
__device__ inline void hadamard(float (&v)[kHadamardValues], int block) {
#pragma unroll
  for (int stride = 1; stride < kHadamardValues; stride *= 2) {
    if (stride >= block) return;
#pragma unroll
    for (int i = 0; i < kHadamardValues; ++i) {
      if ((i & stride) != 0) continue;
      const float a = v[i], b = v[i + stride];
      v[i] = a + b;
      v[i + stride] = a - b;
    }
  }
  for (int distance = 1; distance * kHadamardValues < block; distance *= 2) {
    const bool is_second = (static_cast<int>(threadIdx.x) & distance) != 0;
#pragma unroll
    for (int i = 0; i < kHadamardValues; ++i) {
      const float other = __shfl_xor_sync(0xffffffffu, v[i], distance);
      v[i] = is_second ? other - v[i] : v[i] + other;
    }
  }
}

}  // namespace kernels
}  // namespace kvferry
