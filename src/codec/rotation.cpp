#include "kvferry/codec/rotation.hpp"

namespace kvferry {

SinCos sin_cos(double angle) {
  // Quadrant: the nearest multiple of pi/2, subtracted in three parts of which the first two have
  // 33 significant bits, so that their products with a quadrant below 2^20 are exact.
  constexpr double kTwoOverPi = 0.63661977236758134308;
  constexpr double kHalfPi1 = 1.57079632673412561417e+00;
  constexpr double kHalfPi2 = 6.07710050630396597660e-11;
  constexpr double kHalfPi3 = 2.02226624879595063154e-21;
  const double scaled = angle * kTwoOverPi;
  const auto quadrant = static_cast<std::int64_t>(scaled + (scaled < 0 ? -0.5 : 0.5));
  const double q = static_cast<double>(quadrant);
  const double r = ((angle - q * kHalfPi1) - q * kHalfPi2) - q * kHalfPi3;

  // Taylor series on |r| <= pi/4; the first terms left out are below 3e-14 and 2e-15.
  const double z = r * r;
  double s = 1.0 / 6227020800.0;  // 1/13!
  s = s * z - 1.0 / 39916800.0;
  s = s * z + 1.0 / 362880.0;
  s = s * z - 1.0 / 5040.0;
  s = s * z + 1.0 / 120.0;
  s = s * z - 1.0 / 6.0;
  s = r + r * z * s;
  double c = -1.0 / 87178291200.0;  // -1/14!
  c = c * z + 1.0 / 479001600.0;
  c = c * z - 1.0 / 3628800.0;
  c = c * z + 1.0 / 40320.0;
  c = c * z - 1.0 / 720.0;
  c = c * z + 1.0 / 24.0;
  c = c * z - 0.5;
  c = 1.0 + z * c;

  switch (quadrant & 3) {
    case 0:
      return SinCos{s, c};
    case 1:
      return SinCos{c, -s};
    case 2:
      return SinCos{-s, -c};
    default:
      return SinCos{-c, s};
  }
}

void RopeTable::prepare(std::uint32_t begin, std::uint32_t tokens) {
  if (begin == begin_ && tokens <= tokens_) return;
  const std::size_t pairs = rope_.inverse_frequency.size();
  cos_.resize(tokens * pairs);
  sin_.resize(tokens * pairs);
  for (std::uint32_t t = 0; t < tokens; ++t) {
    const double position = static_cast<double>(begin) + t;
    for (std::size_t i = 0; i < pairs; ++i) {
      const SinCos at = sin_cos(position * static_cast<double>(rope_.inverse_frequency[i]));
      cos_[t * pairs + i] = static_cast<float>(at.cos);
      sin_[t * pairs + i] = static_cast<float>(at.sin);
    }
  }
  begin_ = begin;
  tokens_ = tokens;
}

// The layout and the direction are known when compiling, so that the loop over pairs vectorises.
template <RopeLayout kLayout, bool kInverse>
void RopeTable::apply(float* rows, std::uint32_t tokens, std::uint32_t heads) const {
  constexpr bool kSplit = kLayout == RopeLayout::kSplitHalves;
  const std::size_t pairs = rope_.inverse_frequency.size();
  for (std::size_t t = 0; t < tokens; ++t) {
    const float* cos = cos_.data() + t * pairs;
    const float* sin = sin_.data() + t * pairs;
    for (std::size_t h = 0; h < heads; ++h, rows += head_dim_) {
      for (std::size_t i = 0; i < pairs; ++i) {
        float& a = kSplit ? rows[i] : rows[2 * i];
        float& b = kSplit ? rows[i + pairs] : rows[2 * i + 1];
        const float s = kInverse ? -sin[i] : sin[i];
        const float x = a;
        const float y = b;
        a = x * cos[i] - y * s;
        b = x * s + y * cos[i];
      }
    }
  }
}

void RopeTable::rotate(float* rows, std::uint32_t begin, std::uint32_t tokens,
                       std::uint32_t heads) {
  prepare(begin, tokens);
  if (rope_.layout == RopeLayout::kSplitHalves)
    apply<RopeLayout::kSplitHalves, false>(rows, tokens, heads);
  else
    apply<RopeLayout::kInterleaved, false>(rows, tokens, heads);
}
void RopeTable::unrotate(float* rows, std::uint32_t begin, std::uint32_t tokens,
                         std::uint32_t heads) {
  prepare(begin, tokens);
  if (rope_.layout == RopeLayout::kSplitHalves)
    apply<RopeLayout::kSplitHalves, true>(rows, tokens, heads);
  else
    apply<RopeLayout::kInterleaved, true>(rows, tokens, heads);
}

}  // namespace kvferry
