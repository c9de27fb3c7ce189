// Two F16 numbers as the 32 bits that registers and fragments hold.
#pragma once

#include <cstdint>
#include <cstring>

#include <cuda_fp16.h>
#include <cuda_runtime.h>

namespace kvferry {
namespace kernels {

__device__ inline __half2 half2_from_bits(std::uint32_t bits) {
  __half2 result;
  memcpy(&result, &bits, sizeof result);
  return result;
}

__device__ inline std::uint32_t bits_of(__half2 value) {
  std::uint32_t result;
  memcpy(&result, &value, sizeof result);
  return result;
}

}  // namespace kernels
}  // namespace kvferry
