// How the matrix-vector kernels read each weight format: masks make weights of their bits.
//
// A whole number q below 1024 in the bits of an F16 is the subnormal q * 2^-24, with which HFMA2
// multiplies like with any other number: no conversion and no subtraction. The inputs' scale takes
// the 2^-24 back.
#pragma once

#include <cstdint>
#include <cstring>

#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include "kvferry/compute/device/octet_layout.hpp"

namespace kvferry {
namespace kernels {

__device__ inline __half2 half2_of(std::uint32_t bits) {
  __half2 result;
  memcpy(&result, &bits, sizeof result);
  return result;
}

// Of a group, in shared memory: what its sums are multiplied with to be sums of weight / scale
// times input, and kSumFactor times the sum of its inputs.
struct GroupTerms {
  float factor;
  float sum;
};

// Every format has
//   Group, kParts     the layout's
//   kOctets           that a warp takes at once: inputs are read from shared memory once for all
//   Scale             one row's of one group
//   kInverseUnit      by which its weights are too small as F16: 1 or 2^24
//   kSecondPair       inputs 4 i + 2 and 4 i + 3 are held times this
//   kSumFactor        of GroupTerms::sum; 0 when accumulate() does not look at it
//   chain<c>()        the weights of columns 16 c to 16 c + 15 in pairs, each divided by its scale,
//                     kInverseUnit and, where it is in a second pair, kSecondPair
//   accumulate()      total plus the group's share, from the sum of its products

struct F16 {
  using Group = octet::F16Group;
  struct Scale {};
  static constexpr octet::Format kFormat = octet::Format::kF16;
  static constexpr int kParts = 4;
  static constexpr int kOctets = 1;
  static constexpr float kInverseUnit = 1.0f;
  static constexpr float kSecondPair = 1.0f;
  static constexpr float kSumFactor = 0.0f;

  template <int c>
  static __device__ void chain(const uint4 (&quants)[kParts], __half2 (&weights)[8]) {
    const uint4 low = quants[2 * c], high = quants[2 * c + 1];
    weights[0] = half2_of(low.x);
    weights[1] = half2_of(low.y);
    weights[2] = half2_of(low.z);
    weights[3] = half2_of(low.w);
    weights[4] = half2_of(high.x);
    weights[5] = half2_of(high.y);
    weights[6] = half2_of(high.z);
    weights[7] = half2_of(high.w);
  }
  static __device__ Scale load_scale(const Scale*) { return Scale(); }
  static __device__ float accumulate(float total, float sum, Scale, GroupTerms terms) {
    return fmaf(sum, terms.factor, total);
  }
};

struct W8 {
  using Group = octet::W8Group;
  using Scale = octet::Scale;
  static constexpr octet::Format kFormat = octet::Format::kW8;
  static constexpr int kParts = 2;
  static constexpr int kOctets = 2;
  static constexpr float kInverseUnit = 16777216.0f;
  static constexpr float kSecondPair = 1.0f;
  static constexpr float kSumFactor = 0.0f;

  static __device__ void quad(std::uint32_t word, __half2& first, __half2& second) {
    first = half2_of(word & 0x807f807fu);
    second = half2_of(__byte_perm(word, 0, 0x0321) & 0x807f807fu);
  }
  template <int c>
  static __device__ void chain(const uint4 (&quants)[kParts], __half2 (&weights)[8]) {
    quad(quants[c].x, weights[0], weights[1]);
    quad(quants[c].y, weights[2], weights[3]);
    quad(quants[c].z, weights[4], weights[5]);
    quad(quants[c].w, weights[6], weights[7]);
  }
  static __device__ Scale load_scale(const Scale* scale) { return __ldg(scale); }
  static __device__ float accumulate(float total, float sum, Scale scale, GroupTerms terms) {
    return fmaf(__half2float(__ushort_as_half(scale)), sum * terms.factor, total);
  }
};

struct W4Quants {
  using Group = octet::W4Group;
  static constexpr int kParts = 1;
  static constexpr int kOctets = 2;
  static constexpr float kInverseUnit = 16777216.0f;
  static constexpr float kSecondPair = 0.0625f;  // the upper nibble of a byte is 16 q

  static __device__ void eight(std::uint32_t word, __half2* weights) {
    const std::uint32_t upper = word >> 8;
    weights[0] = half2_of(word & 0x000f000fu);
    weights[1] = half2_of(word & 0x00f000f0u);
    weights[2] = half2_of(upper & 0x000f000fu);
    weights[3] = half2_of(upper & 0x00f000f0u);
  }
  template <int c>
  static __device__ void chain(const uint4 (&quants)[kParts], __half2 (&weights)[8]) {
    eight(c == 0 ? quants[0].x : quants[0].z, weights);
    eight(c == 0 ? quants[0].y : quants[0].w, weights + 4);
  }
};

// 4.5 bits.
struct W4 : W4Quants {
  using Scale = octet::Scale;
  static constexpr octet::Format kFormat = octet::Format::kW4;
  static constexpr float kSumFactor = -static_cast<float>(octet::kW4Zero);

  static __device__ Scale load_scale(const Scale* scale) { return __ldg(scale); }
  static __device__ float accumulate(float total, float sum, Scale scale, GroupTerms terms) {
    return fmaf(__half2float(__ushort_as_half(scale)), fmaf(sum, terms.factor, terms.sum), total);
  }
};

// 5 bits.
struct W4Minimum : W4Quants {
  using Scale = octet::ScaleAndMinimum;
  static constexpr octet::Format kFormat = octet::Format::kW4Minimum;
  static constexpr float kSumFactor = 1.0f;

  static __device__ Scale load_scale(const Scale* scale) {
    const std::uint32_t bits = __ldg(reinterpret_cast<const std::uint32_t*>(scale));
    Scale result;
    result.scale = static_cast<std::uint16_t>(bits);
    result.minimum = static_cast<std::uint16_t>(bits >> 16);
    return result;
  }
  static __device__ float accumulate(float total, float sum, Scale scale, GroupTerms terms) {
    total = fmaf(__half2float(__ushort_as_half(scale.scale)), sum * terms.factor, total);
    return fmaf(__half2float(__ushort_as_half(scale.minimum)), terms.sum, total);
  }
};

}  // namespace kernels
}  // namespace kvferry
