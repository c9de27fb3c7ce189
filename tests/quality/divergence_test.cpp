#include "kvferry/quality/divergence.hpp"

#include <cmath>
#include <limits>
#include <vector>

#include <catch2/catch.hpp>

namespace kvferry {
namespace {

TEST_CASE("the divergence of two known distributions") {
  // Logits are logarithms of probabilities up to a constant.
  const std::vector<float> p = {std::log(0.5f) + 3.0f, std::log(0.25f) + 3.0f,
                                std::log(0.25f) + 3.0f};
  const std::vector<float> q = {std::log(0.25f), std::log(0.25f), std::log(0.5f)};
  // 0.5 ln 2 + 0.25 ln 1 + 0.25 ln 0.5
  CHECK(kl_divergence(p, q) == Approx(0.25 * std::log(2.0)).epsilon(1e-6));
  CHECK(kl_divergence(p, p) == Approx(0.0).margin(1e-12));
}

TEST_CASE("large logits do not overflow") {
  CHECK(kl_divergence(std::vector<float>{1000.0f, 999.0f},
                      std::vector<float>{-3000.0f, -3001.0f}) == Approx(0.0).margin(1e-9));
}

TEST_CASE("a summary has the mean, the percentile, the largest and the agreement") {
  DivergenceMeter meter;
  CHECK(meter.result().rows == 0);
  const std::vector<float> even = {0.0f, 0.0f};
  std::vector<double> expected;
  for (int i = 0; i < 200; ++i) {
    const std::vector<float> other = {0.0f, 0.01f * static_cast<float>(i)};
    meter.add(even, other);
    expected.push_back(kl_divergence(even, other));  // grows with i
  }
  const Divergence d = meter.result();
  CHECK(d.rows == 200);
  CHECK(d.max == expected[199]);
  CHECK(d.p99 == expected[197]);  // 198 of 200 do not exceed it
  CHECK(d.p999 == expected[199]);
  CHECK(d.median == expected[99]);
  CHECK(d.top1 == 0.005);  // only the first row's largest logit is still index 0
  CHECK(d.mean > expected[50]);
  CHECK(d.mean < expected[150]);
}

TEST_CASE("the loss is what the target's probability falls by") {
  const std::vector<float> p = {std::log(0.5f) + 3.0f, std::log(0.25f) + 3.0f,
                                std::log(0.25f) + 3.0f};
  const std::vector<float> q = {std::log(0.25f) - 700.0f, std::log(0.25f) - 700.0f,
                                std::log(0.5f) - 700.0f};
  CHECK(diverge(p, q, 0).loss == Approx(std::log(2.0)).epsilon(1e-4));
  CHECK(diverge(p, q, 1).loss == Approx(0.0).margin(1e-4));
  CHECK(diverge(p, q, 2).loss == Approx(-std::log(2.0)).epsilon(1e-4));
  CHECK(!diverge(p, q, 0).same_top);
  CHECK(diverge(p, p, 0).same_top);
  DivergenceMeter meter;
  meter.add(diverge(p, q, 0));
  meter.add(diverge(p, q, 1));
  CHECK(meter.result().loss == Approx(std::log(2.0) / 2).epsilon(1e-4));
}

TEST_CASE("a NaN is not hidden by the rows without one") {
  DivergenceMeter meter;
  const std::vector<float> row = {1.0f, 2.0f};
  meter.add(row, row);
  meter.add(row, std::vector<float>{1.0f, std::numeric_limits<float>::quiet_NaN()});
  CHECK(std::isnan(meter.result().mean));
  CHECK(std::isnan(meter.result().p99));
}

}  // namespace
}  // namespace kvferry
