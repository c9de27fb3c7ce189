// CUDA's functions on one thread's values. C++14.
//
// The approximate ones (__expf, __fdividef, rsqrtf …) are the float functions of the C library
// here: a test that compares with the device's own results must allow for the device's error.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#include <type_traits>

#include "simt/memory_access.hpp"
#include "simt/vector_types.hpp"

namespace simt {

template <typename To, typename From>
To bits_as(From from) {
  static_assert(sizeof(To) == sizeof(From), "of one size");
  To to;
  std::memcpy(&to, &from, sizeof to);
  return to;
}

}  // namespace simt

inline int __float_as_int(float value) {
  return simt::bits_as<int>(value);
}
inline unsigned __float_as_uint(float value) {
  return simt::bits_as<unsigned>(value);
}
inline float __int_as_float(int bits) {
  return simt::bits_as<float>(bits);
}
inline float __uint_as_float(unsigned bits) {
  return simt::bits_as<float>(bits);
}

inline int __popc(unsigned value) {
  return __builtin_popcount(value);
}
inline int __clz(int value) {
  return value == 0 ? 32 : __builtin_clz(static_cast<unsigned>(value));
}
inline int __ffs(int value) {
  return __builtin_ffs(value);
}

// Byte i of the result is the byte of {y, x} that bits 4i to 4i + 2 of `selector` name; with bit
// 4i + 3 its sign, eight times.
inline unsigned __byte_perm(unsigned x, unsigned y, unsigned selector) {
  const std::uint64_t bytes = static_cast<std::uint64_t>(y) << 32 | x;
  unsigned result = 0;
  for (unsigned i = 0; i < 4; ++i) {
    const unsigned chosen = selector >> (4 * i) & 15u;
    unsigned byte = static_cast<unsigned>(bytes >> (8 * (chosen & 7u))) & 255u;
    if ((chosen & 8u) != 0) byte = (byte & 128u) != 0 ? 255u : 0u;
    result |= byte << (8 * i);
  }
  return result;
}

// The four signed products of bytes, and `sum`. sm_61.
inline int __dp4a(int a, int b, int sum) {
  unsigned result = static_cast<unsigned>(sum);
  for (int i = 0; i < 4; ++i) {
    const int product = static_cast<std::int8_t>(static_cast<unsigned>(a) >> (8 * i)) *
                        static_cast<std::int8_t>(static_cast<unsigned>(b) >> (8 * i));
    result += static_cast<unsigned>(product);
  }
  return static_cast<int>(result);
}

// To the nearest, ties to even; the ends of the range for what lies beyond, 0 for NaN.
inline int __float2int_rn(float value) {
  if (std::isnan(value)) return 0;
  if (value >= 2147483648.0f) return 2147483647;
  if (value < -2147483648.0f) return -2147483647 - 1;
  return static_cast<int>(std::nearbyint(value));
}
inline float __int2float_rn(int value) {
  return static_cast<float>(value);
}
inline float __uint2float_rn(unsigned value) {
  return static_cast<float>(value);
}

inline float __fdividef(float x, float y) {
  return x / y;
}
inline float __frcp_rn(float x) {
  return 1.0f / x;
}
inline float __fsqrt_rn(float x) {
  return std::sqrt(x);
}
inline float rsqrtf(float x) {
  return static_cast<float>(1.0 / std::sqrt(static_cast<double>(x)));
}
inline float __expf(float x) {
  return std::exp(x);
}
inline float __logf(float x) {
  return std::log(x);
}
// Single operations that no compiler contracts.
inline float __fmaf_rn(float x, float y, float z) {
  return std::fma(x, y, z);
}
inline float __fmul_rn(float x, float y) {
  return x * y;
}
inline float __fadd_rn(float x, float y) {
  return x + y;
}
inline float __fsub_rn(float x, float y) {
  return x - y;
}
inline float __saturatef(float x) {
  return x > 0.0f ? (x < 1.0f ? x : 1.0f) : 0.0f;  // NaN becomes 0
}

inline int min(int a, int b) {
  return b < a ? b : a;
}
inline int max(int a, int b) {
  return a < b ? b : a;
}
inline unsigned min(unsigned a, unsigned b) {
  return b < a ? b : a;
}
inline unsigned max(unsigned a, unsigned b) {
  return a < b ? b : a;
}
inline long long min(long long a, long long b) {
  return b < a ? b : a;
}
inline long long max(long long a, long long b) {
  return a < b ? b : a;
}
inline float min(float a, float b) {
  return std::fmin(a, b);
}
inline float max(float a, float b) {
  return std::fmax(a, b);
}

// A read through the texture path: of global memory that no one writes during the launch.
template <typename T>
T __ldg(const T* pointer, simt::Site site = simt::Site::here()) {
  static_assert(std::is_trivially_copyable<T>::value && sizeof(T) <= 16, "one load");
  simt::check_global(pointer, sizeof(T), sizeof(T), "__ldg", site);
  return *pointer;
}
