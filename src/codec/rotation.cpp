#include "kvferry/codec/rotation.hpp"

#include "row_kernels.hpp"

namespace kvferry {

SinCos sin_cos(double angle) {
  // Quadrant: the nearest multiple of pi/2, subtracted in three parts of which the first two have
  // 33 significant bits, so that their products with a quadrant below 2^20 are exact. Larger angles
  // lose accuracy, the same on every machine.
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

namespace {

// Positions are a stretch and a place in it, whose angles add up: a sine for each position and pair
// would take longer than all the rest of the codec.
constexpr std::uint32_t kStretch = 64;

}  // namespace

void RopeTable::prepare(std::uint32_t begin, std::uint32_t tokens) {
  if (begin == begin_ && tokens <= tokens_) return;
  const std::size_t pairs = rope_.inverse_frequency.size();
  if (cos_within_.empty()) {
    for (std::uint32_t t = 0; t < kStretch; ++t) {
      for (const float f : rope_.inverse_frequency) {
        const SinCos at = sin_cos(t * static_cast<double>(f));
        cos_within_.push_back(at.cos);
        sin_within_.push_back(at.sin);
      }
    }
  }
  cos_.resize(tokens * pairs);
  sin_.resize(tokens * pairs);
  std::vector<double> cos_start(pairs);
  std::vector<double> sin_start(pairs);
  for (std::uint32_t t = 0; t < tokens; ++t) {
    const std::uint64_t position = std::uint64_t{begin} + t;
    const auto place = static_cast<std::size_t>(position % kStretch);
    if (t == 0 || place == 0) {
      const auto start = static_cast<double>(position - place);
      for (std::size_t i = 0; i < pairs; ++i) {
        const SinCos at = sin_cos(start * static_cast<double>(rope_.inverse_frequency[i]));
        cos_start[i] = at.cos;
        sin_start[i] = at.sin;
      }
    }
    const double* cos = cos_within_.data() + place * pairs;
    const double* sin = sin_within_.data() + place * pairs;
    for (std::size_t i = 0; i < pairs; ++i) {
      cos_[t * pairs + i] = static_cast<float>(cos_start[i] * cos[i] - sin_start[i] * sin[i]);
      sin_[t * pairs + i] = static_cast<float>(sin_start[i] * cos[i] + cos_start[i] * sin[i]);
    }
  }
  begin_ = begin;
  tokens_ = tokens;
}

RowRotation RopeTable::row(std::size_t token, std::uint32_t heads) const {
  const std::size_t pairs = rope_.inverse_frequency.size();
  return {cos_.data() + token * pairs,
          sin_.data() + token * pairs,
          pairs,
          heads,
          head_dim_,
          rope_.layout};
}

void RopeTable::rotate(float* rows, std::uint32_t begin, std::uint32_t tokens,
                       std::uint32_t heads) {
  prepare(begin, tokens);
  for (std::size_t t = 0; t < tokens; ++t)
    row_kernels().rotate(row(t, heads), false, rows + t * heads * head_dim_);
}
void RopeTable::unrotate(float* rows, std::uint32_t begin, std::uint32_t tokens,
                         std::uint32_t heads) {
  prepare(begin, tokens);
  for (std::size_t t = 0; t < tokens; ++t)
    row_kernels().rotate(row(t, heads), true, rows + t * heads * head_dim_);
}

}  // namespace kvferry
