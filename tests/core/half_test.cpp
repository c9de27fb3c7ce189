#include "kvferry/core/half.hpp"

#include <cmath>
#include <limits>

#include <catch2/catch.hpp>

namespace kvferry {
namespace {

// An independent definition: sign * 2^(e-15) * (1 + m/1024), subnormals m * 2^-24.
double half_by_definition(std::uint16_t bits) {
  const int exponent = (bits >> 10) & 31;
  const int mantissa = bits & 1023;
  const double sign = (bits & 0x8000) != 0 ? -1.0 : 1.0;
  if (exponent == 31) {
    return mantissa != 0 ? std::nan("") : sign * std::numeric_limits<double>::infinity();
  }
  if (exponent == 0) return sign * std::ldexp(mantissa, -24);
  return sign * std::ldexp(1024 + mantissa, exponent - 25);
}

TEST_CASE("every half converts to float as defined and back to itself") {
  int wrong = 0;
  for (std::uint32_t b = 0; b < 65536; ++b) {
    const auto bits = static_cast<std::uint16_t>(b);
    const float f = to_float(Half{bits});
    const double expected = half_by_definition(bits);
    if (std::isnan(expected)) {
      wrong += !std::isnan(f) || !std::isnan(to_float(to_half(f)));
    } else {
      wrong += static_cast<double>(f) != expected || to_half(f).bits != bits;
    }
  }
  CHECK(wrong == 0);
}

TEST_CASE("float rounds to the nearest half, ties to even") {
  int wrong = 0;
  for (std::uint16_t bits = 0; bits < 0x7bff; ++bits) {  // every gap between finite neighbours
    const double low = half_by_definition(bits);
    const double high = half_by_definition(static_cast<std::uint16_t>(bits + 1));
    const auto middle = static_cast<float>((low + high) / 2);
    const auto even = static_cast<std::uint16_t>(bits + (bits & 1));
    wrong += to_half(middle).bits != even;
    wrong += to_half(std::nextafter(middle, 0.0f)).bits != bits;
    wrong += to_half(std::nextafter(middle, 1e9f)).bits != bits + 1;
  }
  CHECK(wrong == 0);
  CHECK(to_half(65519.0f).bits == 0x7bff);
  CHECK(to_half(65520.0f).bits == 0x7c00);
  CHECK(to_half(-1e30f).bits == 0xfc00);
  CHECK(to_half(1e-10f).bits == 0);
  CHECK(to_half(-0.0f).bits == 0x8000);
}

TEST_CASE("float rounds to the nearest bfloat16, ties to even") {
  CHECK(to_bfloat16(1.0f).bits == 0x3f80);
  CHECK(to_bfloat16(float_from_bits(0x3f808000)).bits == 0x3f80);  // tie, even below
  CHECK(to_bfloat16(float_from_bits(0x3f818000)).bits == 0x3f82);  // tie, even above
  CHECK(to_bfloat16(float_from_bits(0x3f808001)).bits == 0x3f81);
  CHECK(std::isnan(to_float(to_bfloat16(std::nanf("")))));
  CHECK(to_float(to_bfloat16(std::numeric_limits<float>::infinity())) ==
        std::numeric_limits<float>::infinity());
}

}  // namespace
}  // namespace kvferry
