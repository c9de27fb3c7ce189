// finite_half(): F16 without infinities.
#pragma once

#include <cuda_fp16.h>
#include <cuda_runtime.h>

namespace kvferry {
namespace kernels {

// To the nearest F16, ties to even; magnitudes past 65504, the largest, become 65504; NaN stays.
__device__ inline __half finite_half(float value) {
  const float cut = fminf(fmaxf(value, -65504.0f), 65504.0f);
  return __float2half_rn(value != value ? value : cut);
}

}  // namespace kernels
}  // namespace kvferry
