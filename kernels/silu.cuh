// silu(x) = x / (1 + e^-x).
#pragma once

#include <cuda_runtime.h>

namespace kvferry {
namespace kernels {

// e^x for x <= 0, to within 2 ulp; 0 below -87. Plain operations, so that it is the same
// everywhere.
__device__ inline float exponential(float x) {
  if (!(x >= -87.0f)) return x != x ? x : 0.0f;
  const float n = rintf(x * 1.44269504f);
  // ln 2 in two parts, the first of so few bits that n times it is exact.
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

}  // namespace kernels
}  // namespace kvferry
