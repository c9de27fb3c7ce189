// The emulated half arithmetic against its definition: the exact result, rounded once.
#include <cstdint>
#include <random>
#include <vector>

#include <catch2/catch.hpp>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

namespace {

// A finite half as a whole number of 2^-24.
long long in_steps(std::uint16_t bits) {
  const int exponent = (bits >> 10) & 31;
  const long long mantissa = bits & 1023;
  const long long magnitude = exponent == 0 ? mantissa : (1024 + mantissa) << (exponent - 1);
  return (bits & 0x8000) != 0 ? -magnitude : magnitude;
}

__extension__ typedef __int128 Wide;
__extension__ typedef unsigned __int128 UnsignedWide;

// value * 2^-48 as a half, nearest, ties to even: counts on whole numbers alone.
std::uint16_t rounded(Wide value) {
  const UnsignedWide magnitude = static_cast<UnsignedWide>(value < 0 ? -value : value);
  unsigned shift = 24;  // to steps of 2^-24, more where the mantissa would not fit
  while ((magnitude >> shift) >= 2048) ++shift;
  const auto kept = static_cast<std::uint32_t>(magnitude >> shift);
  const UnsignedWide tie = UnsignedWide{1} << (shift - 1);
  const UnsignedWide rest = magnitude & (2 * tie - 1);
  const std::uint32_t up = rest > tie || (rest == tie && (kept & 1) != 0) ? 1 : 0;
  const std::uint32_t bits = ((shift - 24) << 10) + kept + up;  // a carry moves into the exponent
  return static_cast<std::uint16_t>((value < 0 ? 0x8000 : 0) | (bits > 0x7c00 ? 0x7c00 : bits));
}

std::uint16_t expected_fma(std::uint16_t a, std::uint16_t b, std::uint16_t c) {
  const Wide exact = Wide{in_steps(a)} * in_steps(b) + Wide{in_steps(c)} * (1 << 24);
  if (exact != 0) return rounded(exact);
  // An exact zero is negative only where both terms are.
  const bool product_is_negative = ((a ^ b) & 0x8000) != 0;
  return product_is_negative && (c & 0x8000) != 0 && (in_steps(a) * in_steps(b) == 0) ? 0x8000 : 0;
}

bool is_finite(std::uint16_t bits) {
  return (bits & 0x7c00) != 0x7c00;
}

std::uint16_t fma_bits(std::uint16_t a, std::uint16_t b, std::uint16_t c) {
  return __half_as_ushort(__hfma(__ushort_as_half(a), __ushort_as_half(b), __ushort_as_half(c)));
}

TEST_CASE("hfma rounds once: halves around every edge, and a million at random") {
  std::vector<std::uint16_t> edges;
  for (int exponent = 0; exponent < 31; ++exponent) {
    for (int mantissa : {0, 1, 2, 511, 512, 513, 1022, 1023}) {
      edges.push_back(static_cast<std::uint16_t>(exponent << 10 | mantissa));
      edges.push_back(static_cast<std::uint16_t>(0x8000 | exponent << 10 | mantissa));
    }
  }
  int wrong = 0;
  std::mt19937 random(20);
  const auto pick = [&] { return edges[random() % edges.size()]; };
  for (int i = 0; i < 1000000; ++i) {
    const std::uint16_t a = pick();
    const std::uint16_t b = pick();
    const std::uint16_t c = pick();
    wrong += fma_bits(a, b, c) != expected_fma(a, b, c) ? 1 : 0;
  }
  for (int i = 0; i < 1000000; ++i) {
    const auto a = static_cast<std::uint16_t>(random());
    const auto b = static_cast<std::uint16_t>(random());
    const auto c = static_cast<std::uint16_t>(random());
    if (!is_finite(a) || !is_finite(b) || !is_finite(c)) continue;
    wrong += fma_bits(a, b, c) != expected_fma(a, b, c) ? 1 : 0;
  }
  CHECK(wrong == 0);
}

TEST_CASE("hfma differs from a product rounded first") {
  const __half a = __ushort_as_half(0x3c01);  // 1 + 2^-10
  const __half minus = __ushort_as_half(0xbc02);
  CHECK(__half2float(__hfma(a, a, minus)) == 9.5367431640625e-07f);  // 2^-20
  CHECK(__half2float(__hadd(__hmul(a, a), minus)) == 0.0f);
}

TEST_CASE("sums and products of halves round once") {
  std::mt19937 random(21);
  int wrong = 0;
  for (int i = 0; i < 1000000; ++i) {
    const auto a = static_cast<std::uint16_t>(random());
    const auto b = static_cast<std::uint16_t>(random());
    if (!is_finite(a) || !is_finite(b)) continue;
    const __half x = __ushort_as_half(a);
    const __half y = __ushort_as_half(b);
    const std::uint16_t zero = ((a ^ b) & 0x8000) != 0 ? 0x8000 : 0;  // keeps a product's sign
    wrong += __half_as_ushort(__hadd(x, y)) != expected_fma(a, 0x3c00, b) ? 1 : 0;
    wrong += __half_as_ushort(__hmul(x, y)) != expected_fma(a, b, zero) ? 1 : 0;
  }
  CHECK(wrong == 0);
}

TEST_CASE("infinities and NaN") {
  const __half infinity = __ushort_as_half(0x7c00);
  CHECK(__half_as_ushort(__hsub(infinity, infinity)) == 0x7fff);
  CHECK(__half_as_ushort(__hadd(infinity, __ushort_as_half(0x3c00))) == 0x7c00);
  CHECK(fma_bits(0x7bff, 0x7bff, 0xfbff) == 0x7c00);
  CHECK(fma_bits(0xfbff, 0x7bff, 0x7bff) == 0xfc00);
  CHECK(__half_as_ushort(__float2half_rn(__int_as_float(0x7fc00001))) == 0x7fff);
}

TEST_CASE("half2 keeps its halves apart; nibbles are subnormals") {
  const __half2 pair = __floats2half2_rn(1.5f, -2.0f);
  CHECK(simt::bits_as<std::uint32_t>(pair) == 0xc0003e00u);
  CHECK(__low2float(__lowhigh2highlow(pair)) == -2.0f);
  CHECK(__half22float2(__hfma2(pair, pair, __half2half2(__float2half(0.25f)))).y == 4.25f);
  // q 2^-24 times a power of two is q exactly.
  const __half2 nibbles = simt::bits_as<__half2>(0x000f0003u);
  const __half2 scaled = __hmul2(nibbles, __float2half2_rn(4096.0f));
  CHECK(__low2float(scaled) == 3.0f / 4096.0f);
  CHECK(__high2float(scaled) == 15.0f / 4096.0f);
}

}  // namespace
