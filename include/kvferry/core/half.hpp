// Half (IEEE binary16) and BFloat16 as storage types with exact conversions. C++14.
// Rounding is to nearest, ties to even; NaN stays NaN (quieted), infinities and subnormals are
// kept.
#pragma once

#include <cstdint>
#include <cstring>

namespace kvferry {

inline std::uint32_t float_bits(float f) {
  std::uint32_t u;
  std::memcpy(&u, &f, sizeof u);
  return u;
}
inline float float_from_bits(std::uint32_t u) {
  float f;
  std::memcpy(&f, &u, sizeof f);
  return f;
}

struct Half {
  std::uint16_t bits;
};

struct BFloat16 {
  std::uint16_t bits;
};

inline bool operator==(Half a, Half b) {
  return a.bits == b.bits;
}
inline bool operator==(BFloat16 a, BFloat16 b) {
  return a.bits == b.bits;
}

// Both directions choose between values that are computed in any case, so that loops over them
// vectorise. Magnitudes are compared as signed integers, which every instruction set can do.
inline float to_float(Half h) {
  const std::uint32_t sign = static_cast<std::uint32_t>(h.bits & 0x8000u) << 16;
  const std::int32_t magnitude = h.bits & 0x7fff;
  const std::uint32_t shifted = static_cast<std::uint32_t>(magnitude) << 13;
  const std::uint32_t normal = shifted + 0x38000000u;
  const std::uint32_t subnormal =  // magnitude * 2^-24, exact
      float_bits(static_cast<float>(magnitude) * 5.9604644775390625e-8f);
  const std::uint32_t special = 0x7f800000u | shifted | (magnitude > 0x7c00 ? 0x400000u : 0u);
  std::uint32_t bits = magnitude < 0x0400 ? subnormal : normal;
  bits = magnitude >= 0x7c00 ? special : bits;
  return float_from_bits(sign | bits);
}

inline Half to_half(float f) {
  const std::uint32_t u = float_bits(f);
  const std::uint32_t sign = (u >> 16) & 0x8000u;
  const std::uint32_t magnitude = u & 0x7fffffffu;
  const std::int32_t order = static_cast<std::int32_t>(magnitude);
  const std::uint32_t odd = (magnitude >> 13) & 1u;
  const std::uint32_t normal = (magnitude - 0x38000000u + 0xfffu + odd) >> 13;
  // Below 2^-14 the sum 0.5 + f rounds f to a multiple of 2^-24.
  const std::uint32_t small = float_bits(float_from_bits(magnitude) + 0.5f) - 0x3f000000u;
  const std::uint32_t nan = 0x7e00u | ((magnitude >> 13) & 0x3ffu);
  std::uint32_t bits = order < 0x38800000 ? small : normal;
  bits = order >= 0x477ff000 ? 0x7c00u : bits;  // from 65520 on
  bits = order > 0x7f800000 ? nan : bits;
  return Half{static_cast<std::uint16_t>(sign | bits)};
}

inline float to_float(BFloat16 b) {
  return float_from_bits(static_cast<std::uint32_t>(b.bits) << 16);
}

inline BFloat16 to_bfloat16(float f) {
  const std::uint32_t u = float_bits(f);
  if ((u & 0x7fffffffu) > 0x7f800000u)
    return BFloat16{static_cast<std::uint16_t>((u >> 16) | 0x40u)};
  const std::uint32_t odd = (u >> 16) & 1u;
  return BFloat16{static_cast<std::uint16_t>((u + 0x7fffu + odd) >> 16)};
}

}  // namespace kvferry
