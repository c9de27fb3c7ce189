// F16 arithmetic in F64, each result rounded once: for models of kernels. Shares nothing with the
// library's conversions or the emulation's.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>

namespace half_arithmetic {

// The F16 number nearest to `value`, ties to even.
inline double to_half(double value) {
  if (value == 0.0 || !std::isfinite(value)) return value;
  int exponent = 0;
  std::frexp(value, &exponent);                                       // |value| < 2^exponent
  const double step = std::ldexp(1.0, std::max(exponent, -13) - 11);  // between F16 numbers here
  const double rounded = std::nearbyint(value / step) * step;
  return std::fabs(rounded) >= 65536.0 ? std::copysign(INFINITY, value) : rounded;
}

// a b + c; the product of two F16 numbers is exact in F64, and the sum near enough that the
// rounding to F16 is the only one that counts.
inline double fused(double a, double b, double c) {
  return to_half(a * b + c);
}

// The value of an F16 number's bits.
inline double from_bits(std::uint16_t bits) {
  const int exponent = bits >> 10 & 31, fraction = bits & 1023;
  double value = 0.0;
  if (exponent == 31) {
    value = fraction == 0 ? INFINITY : NAN;
  } else if (exponent == 0) {
    value = std::ldexp(fraction, -24);
  } else {
    value = std::ldexp(1024 + fraction, exponent - 25);
  }
  return bits >> 15 != 0 ? -value : value;
}

// The bits of an F16 number.
inline std::uint16_t to_bits(double half) {
  if (std::isnan(half)) return 0x7fff;
  const int sign = std::signbit(half) ? 0x8000 : 0;
  const double size = std::fabs(half);
  if (std::isinf(half)) return static_cast<std::uint16_t>(sign | 0x7c00);
  const int exponent = size < std::ldexp(1.0, -14) ? -15 : std::ilogb(size);
  const double fraction =
      exponent == -15 ? std::ldexp(size, 24) : std::ldexp(size, 10 - exponent) - 1024;
  return static_cast<std::uint16_t>(sign | (exponent + 15) << 10 | static_cast<int>(fraction));
}

}  // namespace half_arithmetic
