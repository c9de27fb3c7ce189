// CUDA's half and half2 (IEEE binary16): every operation rounds once, to nearest, ties to even;
// subnormals are kept; a NaN that an operation makes is 0x7fff, as on the device. C++14.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

#include "kvferry/core/half.hpp"

#include "simt/vector_types.hpp"

struct __half {
  std::uint16_t bits;
};
using half = __half;

struct alignas(4) __half2 {
  __half x, y;
  __half2() = default;
  constexpr __half2(__half low, __half high) : x(low), y(high) {}
};
using half2 = __half2;

namespace simt {

constexpr std::uint16_t kHalfNan = 0x7fff;

inline double as_double(__half value) {
  return static_cast<double>(kvferry::to_float(kvferry::Half{value.bits}));
}

// Rounds to odd on the way through float: a float keeps 13 bits more than a half, the last of which
// then says whether anything lay below, so that the second rounding is the only one.
inline __half round_to_half(double value) {
  if (std::isnan(value)) return __half{kHalfNan};
  float rounded = static_cast<float>(value);
  const double back = static_cast<double>(rounded);
  if (back != value) {
    std::uint32_t bits = kvferry::float_bits(rounded);
    if (std::fabs(back) > std::fabs(value)) --bits;
    rounded = kvferry::float_from_bits(bits | 1u);
  }
  return __half{kvferry::to_half(rounded).bits};
}

// a b + c rounded once. In double the product is exact (22 bits). The sum is too, unless the two
// lie more than 53 bits apart: then either the product is below 2^-29 of c, a half, which is the
// result both ways; or c is below 2^-52 of the product, which is above 2^28 and so infinity.
inline __half fused_multiply_add(__half a, __half b, __half c) {
  return round_to_half(as_double(a) * as_double(b) + as_double(c));
}

}  // namespace simt

inline std::uint16_t __half_as_ushort(__half value) {
  return value.bits;
}
inline __half __ushort_as_half(std::uint16_t bits) {
  return __half{bits};
}

inline __half __float2half_rn(float value) {
  if (std::isnan(value)) return __half{simt::kHalfNan};
  return __half{kvferry::to_half(value).bits};
}
inline __half __float2half(float value) {
  return __float2half_rn(value);
}
inline float __half2float(__half value) {
  return kvferry::to_float(kvferry::Half{value.bits});
}
inline __half __int2half_rn(int value) {
  return simt::round_to_half(value);
}

inline __half2 __halves2half2(__half low, __half high) {
  return __half2(low, high);
}
inline __half2 __half2half2(__half value) {
  return __half2(value, value);
}
inline __half __low2half(__half2 value) {
  return value.x;
}
inline __half __high2half(__half2 value) {
  return value.y;
}
inline __half2 __low2half2(__half2 value) {
  return __half2(value.x, value.x);
}
inline __half2 __high2half2(__half2 value) {
  return __half2(value.y, value.y);
}
inline __half2 __lows2half2(__half2 a, __half2 b) {
  return __half2(a.x, b.x);
}
inline __half2 __highs2half2(__half2 a, __half2 b) {
  return __half2(a.y, b.y);
}
inline __half2 __lowhigh2highlow(__half2 value) {
  return __half2(value.y, value.x);
}
inline float __low2float(__half2 value) {
  return __half2float(value.x);
}
inline float __high2float(__half2 value) {
  return __half2float(value.y);
}
inline float2 __half22float2(__half2 value) {
  return make_float2(__low2float(value), __high2float(value));
}
inline __half2 __floats2half2_rn(float low, float high) {
  return __half2(__float2half_rn(low), __float2half_rn(high));
}
inline __half2 __float2half2_rn(float value) {
  return __half2half2(__float2half_rn(value));
}

inline __half __hadd(__half a, __half b) {
  return simt::round_to_half(simt::as_double(a) + simt::as_double(b));
}
inline __half __hsub(__half a, __half b) {
  return simt::round_to_half(simt::as_double(a) - simt::as_double(b));
}
inline __half __hmul(__half a, __half b) {
  return simt::round_to_half(simt::as_double(a) * simt::as_double(b));
}
inline __half __hfma(__half a, __half b, __half c) {
  return simt::fused_multiply_add(a, b, c);
}
inline __half __hneg(__half value) {
  return __half{static_cast<std::uint16_t>(value.bits ^ 0x8000u)};
}
inline __half __habs(__half value) {
  return __half{static_cast<std::uint16_t>(value.bits & 0x7fffu)};
}
inline __half2 __hadd2(__half2 a, __half2 b) {
  return __half2(__hadd(a.x, b.x), __hadd(a.y, b.y));
}
inline __half2 __hsub2(__half2 a, __half2 b) {
  return __half2(__hsub(a.x, b.x), __hsub(a.y, b.y));
}
inline __half2 __hmul2(__half2 a, __half2 b) {
  return __half2(__hmul(a.x, b.x), __hmul(a.y, b.y));
}
inline __half2 __hfma2(__half2 a, __half2 b, __half2 c) {
  return __half2(__hfma(a.x, b.x, c.x), __hfma(a.y, b.y, c.y));
}
inline __half2 __hneg2(__half2 value) {
  return __half2(__hneg(value.x), __hneg(value.y));
}

// False when either is NaN.
inline bool __heq(__half a, __half b) {
  return __half2float(a) == __half2float(b);
}
inline bool __hlt(__half a, __half b) {
  return __half2float(a) < __half2float(b);
}
inline bool __hgt(__half a, __half b) {
  return __half2float(a) > __half2float(b);
}
inline bool __hisnan(__half value) {
  return (value.bits & 0x7fffu) > 0x7c00u;
}

// The operators of CUDA's header.
inline __half operator+(__half a, __half b) {
  return __hadd(a, b);
}
inline __half operator*(__half a, __half b) {
  return __hmul(a, b);
}
inline __half2 operator+(__half2 a, __half2 b) {
  return __hadd2(a, b);
}
inline __half2 operator*(__half2 a, __half2 b) {
  return __hmul2(a, b);
}
