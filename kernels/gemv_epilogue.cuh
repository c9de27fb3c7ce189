// What matrix-vector products do with their results.
//
// write(vector, row, value, is_valid): called once an octet by the whole warp, lane l with row
// l % 8 of the octet and vector l / 8; nothing is stored where it is not valid. advanced(batch)
// names the vectors from `batch` on,
// refusal(rows) why that many rows cannot be written, or nullptr.
#pragma once

#include <cstddef>

#include <cuda_runtime.h>

namespace kvferry {
namespace kernels {

__host__ __device__ inline std::ptrdiff_t element(int vector, int stride, int row) {
  return static_cast<std::ptrdiff_t>(vector) * stride + row;
}

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

// out = value (+ bias).
struct StoreOutput {
  float* out;  // [batch, stride]
  int stride;
  const float* bias;  // [rows] or nullptr

  __device__ void write(int vector, int row, float value, bool is_valid) const {
    if (!is_valid) return;
    if (bias != nullptr) value += __ldg(bias + row);
    out[element(vector, stride, row)] = value;
  }
  const char* refusal(int rows) const {
    return out == nullptr || stride < rows ? "matrix-vector product: no room for the output"
                                           : nullptr;
  }
  StoreOutput advanced(int batch) const { return {out + element(batch, stride, 0), stride, bias}; }
};

// hidden += value.
struct AddResidual {
  float* hidden;  // [batch, stride]
  int stride;

  __device__ void write(int vector, int row, float value, bool is_valid) const {
    if (is_valid) hidden[element(vector, stride, row)] += value;
  }
  const char* refusal(int rows) const {
    return hidden == nullptr || stride < rows ? "matrix-vector product: no room for the output"
                                              : nullptr;
  }
  AddResidual advanced(int batch) const { return {hidden + element(batch, stride, 0), stride}; }
};

// out[row / 2] = silu(value of row) * value of row + 1, rows of gate and up by turns.
struct SwiGlu {
  float* out;  // [batch, stride]
  int stride;

  __device__ void write(int vector, int row, float value, bool is_valid) const {
    const float up = __shfl_xor_sync(0xffffffffu, value, 1);
    if (is_valid && row % 2 == 0) out[element(vector, stride, row / 2)] = silu(value) * up;
  }
  const char* refusal(int rows) const {
    if (rows % 2 != 0) return "matrix-vector product: gate and up have to have as many rows";
    return out == nullptr || stride < rows / 2 ? "matrix-vector product: no room for the output"
                                               : nullptr;
  }
  SwiGlu advanced(int batch) const { return {out + element(batch, stride, 0), stride}; }
};

}  // namespace kernels
}  // namespace kvferry
