// Each scaling scheme against its definition as published, written in another form than the code.
#include "kvferry/model/rope_scaling.hpp"

#include <cmath>
#include <vector>

#include <catch2/catch.hpp>

using namespace kvferry;

namespace {

constexpr double kTwoPi = 6.283185307179586;

RopeParameters parameters(std::uint32_t rotated, double base) {
  RopeParameters p;
  p.layout = RopeLayout::kSplitHalves;
  p.rotated = rotated;
  p.base = base;
  return p;
}

// The plain frequencies, by repeated multiplication.
std::vector<double> plain(std::uint32_t rotated, double base) {
  const double step = std::exp(-2.0 * std::log(base) / rotated);
  std::vector<double> out;
  double f = 1.0;
  for (std::uint32_t i = 0; i < rotated / 2; ++i) {
    out.push_back(f);
    f *= step;
  }
  return out;
}

void check(const RopeSpec& spec, const std::vector<double>& expected) {
  REQUIRE(spec.inverse_frequency.size() == expected.size());
  for (std::size_t i = 0; i < expected.size(); ++i) {
    INFO("pair " << i);
    const double difference =
        std::abs(static_cast<double>(spec.inverse_frequency[i]) - expected[i]);
    CHECK(difference <= 1e-6 * expected[i]);
  }
}

}  // namespace

TEST_CASE("plain RoPE") {
  for (const std::uint32_t rotated : {2u, 32u, 64u, 80u, 128u}) {
    for (const double base : {100.0, 10000.0, 500000.0, 1e6}) {
      const RopeSpec spec = plain_rope(parameters(rotated, base));
      check(spec, plain(rotated, base));
      CHECK(spec.layout == RopeLayout::kSplitHalves);
      CHECK(spec.rotated() == rotated);
      CHECK(spec.attention_scale == 1.0f);
      CHECK(spec.inverse_frequency[0] == 1.0f);
    }
  }
}

TEST_CASE("linear interpolation divides positions") {
  std::vector<double> expected = plain(64, 10000.0);
  for (double& f : expected) f *= 0.25;
  check(linear_rope(parameters(64, 10000.0), 4.0), expected);
}

TEST_CASE("NTK leaves the quickest pair and interpolates the slowest in full") {
  const std::vector<double> unscaled = plain(128, 10000.0);
  const RopeSpec spec = ntk_rope(parameters(128, 10000.0), 8.0);
  CHECK(spec.inverse_frequency[0] == 1.0f);
  CHECK(static_cast<double>(spec.inverse_frequency[63]) == Approx(unscaled[63] / 8).epsilon(1e-6));
  // Between, a geometric blend: pair i by 8^(i / 63).
  CHECK(static_cast<double>(spec.inverse_frequency[21]) ==
        Approx(unscaled[21] / 2.0).epsilon(1e-6));
}

TEST_CASE("Llama 3 scaling by wavelength") {
  Llama3Scaling s;
  s.factor = 32.0;
  s.original_context = 4096.0;
  std::vector<double> expected;
  int kept = 0;
  int stretched = 0;
  for (const double f : plain(64, 500000.0)) {
    const double wavelength = kTwoPi / f;
    if (wavelength < 4096.0 / 4.0) {
      expected.push_back(f);
      ++kept;
    } else if (wavelength > 4096.0 / 1.0) {
      expected.push_back(f / 32.0);
      ++stretched;
    } else {
      const double smooth = (4096.0 / wavelength - 1.0) / (4.0 - 1.0);
      expected.push_back((1.0 - smooth) * f / 32.0 + smooth * f);
    }
  }
  REQUIRE(kept > 5);
  REQUIRE(stretched > 5);
  REQUIRE(kept + stretched < 32);
  check(llama3_rope(parameters(64, 500000.0), s), expected);
}

TEST_CASE("YaRN by dimensions") {
  // As an implementation rotates: theta for position 1, dimension by dimension.
  const double base = 10000.0;
  const int dimensions = 64;
  YarnScaling s;
  s.factor = 4.0;
  s.original_context = 64.0;
  const double low_dimension =
      dimensions * std::log(64.0 / (32.0 * kTwoPi)) / (2.0 * std::log(base));
  const double high_dimension = dimensions * std::log(64.0 / kTwoPi) / (2.0 * std::log(base));
  const double start = std::fmax(0.0, std::floor(low_dimension));
  const double end = std::fmin(dimensions - 1.0, std::ceil(high_dimension));
  REQUIRE(end - start > 3.0);
  std::vector<double> expected;
  for (int i0 = 0; i0 < dimensions; i0 += 2) {
    const double extrapolated = std::pow(base, -static_cast<double>(i0) / dimensions);
    const double interpolated = 0.25 * extrapolated;
    const int pair = i0 / 2;
    const double y = (pair - start) / (end - start);
    const double mix = 1.0 - std::fmin(1.0, std::fmax(0.0, y));
    expected.push_back(interpolated * (1.0 - mix) + extrapolated * mix);
  }
  const RopeSpec spec = yarn_rope(parameters(64, base), s);
  check(spec, expected);
  CHECK(static_cast<double>(spec.attention_scale) == Approx(1.138629436111989));
  s.extrapolation = 0.0;
  const RopeSpec interpolated = yarn_rope(parameters(64, base), s);
  CHECK(interpolated == linear_rope(parameters(64, base), 4.0));
  // A factor of 1 changes nothing.
  s = YarnScaling();
  s.original_context = 4096.0;
  check(yarn_rope(parameters(64, base), s), plain(64, base));
  CHECK(yarn_rope(parameters(64, base), s).attention_scale == 1.0f);
}

TEST_CASE("frequency factors divide") {
  RopeSpec spec = plain_rope(parameters(4, 10000.0));
  const std::vector<float> factors = {2.0f, 8.0f};
  divide_frequencies(spec, factors);
  check(spec, {0.5, 0.00125});
}
