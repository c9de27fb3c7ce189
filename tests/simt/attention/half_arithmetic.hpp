// IEEE binary16 for models of the kernels, from its definition.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>

namespace kvferry::test {

inline double half_value(std::uint16_t bits) {
  const int exponent = bits >> 10 & 31, fraction = bits & 1023;
  double magnitude = std::ldexp(fraction, -24);
  if (exponent == 31) {
    magnitude = fraction == 0 ? std::numeric_limits<double>::infinity()
                              : std::numeric_limits<double>::quiet_NaN();
  } else if (exponent > 0) {
    magnitude = std::ldexp(1024 + fraction, exponent - 25);
  }
  return (bits & 0x8000) != 0 ? -magnitude : magnitude;
}

// The nearest binary16 number as a double, ties to even.
inline double rounded_to_half(double value) {
  if (!(std::fabs(value) < 65520.0)) {
    return std::isnan(value) ? value
                             : std::copysign(std::numeric_limits<double>::infinity(), value);
  }
  int exponent = 0;
  std::frexp(value, &exponent);
  const int quantum = std::max(exponent - 11, -24);
  return std::copysign(std::ldexp(std::nearbyint(std::ldexp(value, -quantum)), quantum), value);
}

// Of a number that is one.
inline std::uint16_t half_bits(double value) {
  const std::uint16_t sign = std::signbit(value) ? 0x8000 : 0;
  const double magnitude = std::fabs(value);
  if (std::isnan(value)) return 0x7fff;
  if (std::isinf(value)) return static_cast<std::uint16_t>(sign | 0x7c00);
  int exponent = 0;
  std::frexp(magnitude, &exponent);
  const int quantum = magnitude == 0.0 ? -24 : std::max(exponent - 11, -24);
  const int steps = static_cast<int>(std::ldexp(magnitude, -quantum));
  return static_cast<std::uint16_t>(sign | (((quantum + 24) << 10) + steps));
}

}  // namespace kvferry::test
