#include "kvferry/codec/token_classes.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>
#include <vector>

#include <catch2/catch.hpp>

namespace kvferry {
namespace {

std::vector<int> classes_of(const std::vector<float>& attention) {
  std::vector<std::uint8_t> classes(attention.size(), 9);
  token_classes(attention, classes);
  return std::vector<int>(classes.begin(), classes.end());
}

TEST_CASE("classes are the nearest powers of two of the attention's fourth root, one-sided") {
  std::mt19937 random(5);
  std::lognormal_distribution<float> attention(-9.0f, 3.0f);
  std::vector<float> a(1001);
  for (float& x : a) x = attention(random);
  std::vector<float> sorted = a;
  std::sort(sorted.begin(), sorted.end());
  const double median = static_cast<double>(sorted[500]);
  const std::vector<int> classes = classes_of(a);
  int count[3] = {0, 0, 0};
  for (std::size_t t = 0; t < a.size(); ++t) {
    const double step = std::pow(static_cast<double>(a[t]) / median, -0.25);
    const double octaves = std::min(2.0, std::max(0.0, std::round(-std::log2(step))));
    CHECK(classes[t] == static_cast<int>(octaves));
    ++count[classes[t]];
  }
  CHECK(count[0] > 500);
  CHECK(count[1] > 100);
  CHECK(count[2] > 50);
}

TEST_CASE("the borders between classes") {
  CHECK(classes_of({1, 1, 1, 4, 4.01f}) == std::vector<int>{0, 0, 0, 0, 1});
  CHECK(classes_of({1, 1, 1, 64, 64.1f}) == std::vector<int>{0, 0, 0, 1, 2});
  CHECK(classes_of({1e-30f, 1, 1, 1, 1}) == std::vector<int>{0, 0, 0, 0, 0});
}

TEST_CASE("any values have classes") {
  CHECK(classes_of({}).empty());
  CHECK(classes_of({0.3f}) == std::vector<int>{0});
  CHECK(classes_of({0, 0, 0}) == std::vector<int>{0, 0, 0});
  CHECK(classes_of({0, 0, 0, 1e-20f}) == std::vector<int>{0, 0, 0, 2});
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const float infinity = std::numeric_limits<float>::infinity();
  CHECK(classes_of({nan, 1, 1, -5, infinity}) == std::vector<int>{0, 0, 0, 0, 2});
  CHECK(classes_of({infinity, infinity, infinity}) == std::vector<int>{0, 0, 0});
  CHECK(classes_of({1, 3e38f, 3e38f}) == std::vector<int>{0, 0, 0});
}

}  // namespace
}  // namespace kvferry
