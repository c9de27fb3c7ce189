// Every baseline against its definition written down once more, slowly and in F64.
#include "kvferry/quality/baselines.hpp"

#include <cmath>
#include <cstring>
#include <limits>
#include <map>
#include <random>
#include <vector>

#include <catch2/catch.hpp>

#include "kvferry/core/half.hpp"

namespace kvferry {
namespace {

struct Shape {
  std::size_t tokens, kv_heads, head_dim, layer, layers;
};
const Shape kShapes[] = {{40, 3, 64, 0, 3}, {300, 1, 96, 1, 3}, {7, 2, 80, 2, 3}, {1, 1, 32, 0, 1}};

// Rows whose channels differ in spread and mean, as those of K do; one channel is all zeros.
std::vector<float> random_rows(const Shape& s, unsigned seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal;
  const std::size_t width = s.kv_heads * s.head_dim;
  std::vector<float> spread(width), mean(width), rows;
  for (float& x : spread) x = std::exp(normal(random));
  for (float& x : mean) x = 3.0f * normal(random);
  for (std::size_t t = 0; t < s.tokens; ++t) {
    for (std::size_t c = 0; c < width; ++c)
      rows.push_back(c == 5 ? 0.0f : mean[c] + spread[c] * normal(random));
  }
  return rows;
}

PlaneRows rows_of(std::vector<float>& values, const Shape& s) {
  PlaneRows rows;
  rows.values = values;
  rows.tokens = s.tokens;
  rows.kv_heads = s.kv_heads;
  rows.head_dim = s.head_dim;
  rows.layer = s.layer;
  rows.layers = s.layers;
  return rows;
}

double half(double x) {
  return static_cast<double>(to_float(to_half(static_cast<float>(x))));
}

// The largest difference, in shares of the largest value; a NaN counts as infinity.
double distance(const std::vector<float>& a, const std::vector<double>& b) {
  REQUIRE(a.size() == b.size());
  double worst = 0.0, largest = 1e-30;
  for (std::size_t i = 0; i < a.size(); ++i) {
    largest = std::max(largest, std::fabs(b[i]));
    const double difference = std::fabs(static_cast<double>(a[i]) - b[i]);
    if (!(difference <= worst))
      worst = std::isnan(difference) ? std::numeric_limits<double>::infinity() : difference;
  }
  return worst / largest;
}

// Rounds groups of 32 of every head's row.
template <typename Round>
std::vector<double> by_groups(const std::vector<float>& rows, std::size_t head_dim, Round round) {
  std::vector<double> out;
  for (std::size_t head = 0; head < rows.size(); head += head_dim) {
    for (std::size_t d = 0; d < head_dim; d += 32) {
      const std::size_t end = std::min<std::size_t>(d + 32, head_dim);
      const std::vector<double> group(rows.begin() + static_cast<long>(head + d),
                                      rows.begin() + static_cast<long>(head + end));
      for (const double x : round(group)) out.push_back(x);
    }
  }
  return out;
}

std::vector<double> slow_q8(const std::vector<double>& x) {
  double largest = 0.0;
  for (const double v : x) largest = std::max(largest, std::fabs(v));
  std::vector<double> out;
  for (const double v : x)
    out.push_back(largest == 0.0 ? 0.0 : std::round(v * 127.0 / largest) * half(largest / 127.0));
  return out;
}

std::vector<double> slow_q4(const std::vector<double>& x) {
  double extreme = 0.0;
  for (const double v : x)
    if (std::fabs(v) > std::fabs(extreme)) extreme = v;
  std::vector<double> out;
  for (const double v : x) {
    const double level = extreme == 0.0 ? 8.0 : std::floor(v * -8.0 / extreme + 8.5);
    out.push_back((std::min(15.0, level) - 8.0) * half(extreme / -8.0));
  }
  return out;
}

// By the matrix: entry (i, j) is (-1)^(number of ones in i & j) / sqrt(n).
std::vector<double> slow_hadamard(const std::vector<double>& x, std::size_t n) {
  std::vector<double> out(x.size(), 0.0);
  for (std::size_t i = 0; i < x.size(); ++i) {
    for (std::size_t j = 0; j < n; ++j) {
      int ones = 0;
      for (std::size_t both = i % n & j; both != 0; both &= both - 1) ++ones;
      out[i] += (ones % 2 == 0 ? 1.0 : -1.0) * x[i / n * n + j] / std::sqrt(static_cast<double>(n));
    }
  }
  return out;
}

std::size_t power_of_two_in(std::size_t n) {
  std::size_t p = 1;
  while (n % (2 * p) == 0) p *= 2;
  return p;
}

// Shares of values that may differ where F32 and F64 round to neighbouring levels.
void check_close(const std::vector<float>& got, const std::vector<double>& expected) {
  REQUIRE(got.size() == expected.size());
  double norm = 0.0, error = 0.0;
  for (std::size_t i = 0; i < got.size(); ++i) {
    norm += expected[i] * expected[i];
    error += std::pow(static_cast<double>(got[i]) - expected[i], 2);
  }
  CHECK(norm > 0.0);
  CHECK(error <= 1e-5 * norm);
}

TEST_CASE("q8_0 and q4_0 are llama.cpp's formats") {
  for (const Shape& s : kShapes) {
    CAPTURE(s.tokens, s.head_dim);
    const std::vector<float> rows = random_rows(s, 1);
    const std::uint64_t groups = s.tokens * s.kv_heads * ((s.head_dim + 31) / 32);
    std::vector<float> q8 = rows, q4 = rows;
    CHECK(round_q8_0(rows_of(q8, s)) == 8 * rows.size() + 16 * groups);
    CHECK(round_q4_0(rows_of(q4, s)) == 4 * rows.size() + 16 * groups);
    check_close(q8, by_groups(rows, s.head_dim, slow_q8));
    check_close(q4, by_groups(rows, s.head_dim, slow_q4));
    CHECK(distance(q8, std::vector<double>(rows.begin(), rows.end())) < 0.005);
    CHECK(distance(q4, std::vector<double>(rows.begin(), rows.end())) < 0.1);
  }
  std::vector<float> whole(64 * 512);
  CHECK(round_q8_0(rows_of(whole, {512, 1, 64, 0, 1})) * 2 == 17 * whole.size());  // 8.5 bits
  CHECK(round_q4_0(rows_of(whole, {512, 1, 64, 0, 1})) * 2 == 9 * whole.size());   // 4.5 bits
  for (const float x : whole) CHECK(x == 0.0f);
}

TEST_CASE("the Hadamard transform is that of its matrix and undoes itself") {
  for (const std::size_t n : {1u, 2u, 16u, 64u}) {
    const Shape shape = {6, 1, 64, 0, 1};
    const std::vector<float> rows = random_rows(shape, 2);
    std::vector<float> got = rows;
    hadamard(got, n);
    CHECK(distance(got, slow_hadamard(std::vector<double>(rows.begin(), rows.end()), n)) < 1e-6);
    hadamard(got, n);
    CHECK(distance(got, std::vector<double>(rows.begin(), rows.end())) < 1e-6);
  }
}

TEST_CASE("q4_0 after a Hadamard transform") {
  for (const Shape& s : kShapes) {
    CAPTURE(s.tokens, s.head_dim);
    const std::vector<float> rows = random_rows(s, 3);
    std::vector<float> got = rows;
    CHECK(round_q4_0_hadamard(rows_of(got, s)) ==
          4 * rows.size() + 16 * s.tokens * s.kv_heads * ((s.head_dim + 31) / 32));
    const std::size_t n = power_of_two_in(s.head_dim);
    const std::vector<double> turned =
        slow_hadamard(std::vector<double>(rows.begin(), rows.end()), n);
    const std::vector<float> narrow(turned.begin(), turned.end());
    check_close(got, slow_hadamard(by_groups(narrow, s.head_dim, slow_q4), n));
  }
}

// One head's tile of tokens, [tokens, dim].
std::vector<double> slow_kvarn(std::vector<double> x, std::size_t dim, double levels) {
  const std::size_t tokens = x.size() / dim, n = power_of_two_in(dim);
  x = slow_hadamard(x, n);
  std::vector<double> row(tokens, 1.0), column(dim, 1.0);
  for (int i = 0; i < 16; ++i) {
    for (std::size_t c = 0; c < dim; ++c) {
      double sum = 0.0;
      for (std::size_t t = 0; t < tokens; ++t)
        sum += std::pow(x[t * dim + c] / row[t] / column[c], 2);
      if (sum > 0.0) column[c] *= std::sqrt(sum / static_cast<double>(tokens));
    }
    for (std::size_t t = 0; t < tokens; ++t) {
      double sum = 0.0;
      for (std::size_t c = 0; c < dim; ++c) sum += std::pow(x[t * dim + c] / row[t] / column[c], 2);
      if (sum > 0.0) row[t] *= std::sqrt(sum / static_cast<double>(dim));
    }
  }
  const double top = (levels - 1.0) / 2.0;
  for (std::size_t t = 0; t < tokens; ++t) {
    double largest = 0.0;
    for (std::size_t c = 0; c < dim; ++c)
      largest = std::max(largest, std::fabs(x[t * dim + c] / half(column[c])));
    const double step = half(largest / top);
    for (std::size_t c = 0; c < dim; ++c) {
      const double scale = step * half(column[c]);
      double& v = x[t * dim + c];
      // The nearest of -top, -top + 1, ..., top.
      double best = -top;
      for (double level = -top; level <= top; level += 1.0)
        if (std::fabs(v - level * scale) < std::fabs(v - best * scale)) best = level;
      v = best * scale;
    }
  }
  return slow_hadamard(x, n);
}

TEST_CASE("KVarN: balanced tiles of 128 tokens, and token 0 as it is") {
  for (const Shape& s : kShapes) {
    for (const int bits : {3, 4}) {
      CAPTURE(s.tokens, s.head_dim, bits);
      std::vector<float> rows = random_rows(s, 4);
      for (float& x : rows) x += 0.01f;  // no channel of zeros: F32 and F64 would divide alike
      std::vector<float> got = rows;
      const std::uint64_t size = round_kvarn(rows_of(got, s), bits);
      std::vector<double> expected(rows.begin(), rows.end());
      for (std::size_t i = 0; i < s.kv_heads * s.head_dim; ++i) expected[i] = half(expected[i]);
      std::uint64_t expected_size = 16 * s.kv_heads * s.head_dim;
      for (std::size_t first = 1; first < s.tokens; first += 128) {
        const std::size_t tokens = std::min<std::size_t>(128, s.tokens - first);
        expected_size += s.kv_heads * (tokens * s.head_dim * static_cast<std::uint64_t>(bits) +
                                       16 * (tokens + s.head_dim));
        for (std::size_t h = 0; h < s.kv_heads; ++h) {
          const auto at = [&](std::size_t t, std::size_t c) {
            return ((first + t) * s.kv_heads + h) * s.head_dim + c;
          };
          std::vector<double> tile;
          for (std::size_t t = 0; t < tokens; ++t) {
            for (std::size_t c = 0; c < s.head_dim; ++c) tile.push_back(expected[at(t, c)]);
          }
          tile = slow_kvarn(tile, s.head_dim, std::pow(2.0, bits));
          for (std::size_t i = 0; i < tile.size(); ++i)
            expected[at(i / s.head_dim, i % s.head_dim)] = tile[i];
        }
      }
      CHECK(size == expected_size);
      // F32 and F64 differ by a level where a value lies between two.
      double norm = 0.0, error = 0.0;
      for (std::size_t i = 0; i < got.size(); ++i) {
        norm += expected[i] * expected[i];
        error += std::pow(static_cast<double>(got[i]) - expected[i], 2);
      }
      CHECK(error <= 1e-4 * norm);
    }
  }
}

TEST_CASE("CacheGen: anchors of 8 bits, entropy-coded differences and their tables") {
  const Shape s = {52, 2, 16, 2, 3};
  const std::size_t width = s.kv_heads * s.head_dim;
  const std::vector<float> rows = random_rows(s, 5);
  std::vector<float> got = rows;
  const std::uint64_t size = round_cachegen(rows_of(got, s));

  std::vector<double> x(rows.begin(), rows.end());
  double bits = 16.0, squares = 0.0;
  for (std::size_t c = 0; c < width; ++c) {
    double largest = 0.0;
    for (std::size_t t = 0; t < s.tokens; t += 10)
      largest = std::max(largest, std::fabs(x[t * width + c]));
    bits += 16.0;
    for (std::size_t t = 0; t < s.tokens; t += 10) {
      double& anchor = x[t * width + c];
      if (largest != 0.0) anchor = std::round(anchor / half(largest / 127)) * half(largest / 127);
      bits += 8.0;
    }
  }
  for (std::size_t i = 0; i < x.size(); ++i)
    squares += std::pow(x[i] - x[i / width / 10 * 10 * width + i % width], 2);
  const double step = half(1.0 * std::sqrt(squares / static_cast<double>(x.size())));
  std::vector<std::map<long, int>> counts(width);
  for (std::size_t i = 0; i < x.size(); ++i) {
    if (i / width % 10 == 0) continue;
    const double anchor = x[i / width / 10 * 10 * width + i % width];
    const long level = std::lround((x[i] - anchor) / step);
    ++counts[i % width][level];
    x[i] = anchor + static_cast<double>(level) * step;
  }
  for (const auto& table : counts) {
    double total = 0.0, coded = 0.0;
    for (const auto& entry : table) total += entry.second;
    for (const auto& entry : table) coded -= entry.second * std::log2(entry.second / total);
    bits += std::ceil(coded - 1e-9);
    bits += 16.0 * static_cast<double>(table.rbegin()->first - table.begin()->first + 3);
  }
  check_close(got, x);
  CHECK(std::fabs(static_cast<double>(size) - bits) <= 0.01 * bits);
}

TEST_CASE("all baselines by name, over all planes of a cache") {
  ContextCache cache;
  cache.geometry.layers = 2;
  cache.geometry.kv_heads = 2;
  cache.geometry.head_dim = 64;
  cache.geometry.type = ElementType::kF32;
  cache.tokens.assign(20, 1);
  const std::vector<float> plane = random_rows({20, 2, 64, 0, 2}, 6);
  for (std::size_t p = 0; p < cache.planes(); ++p)
    cache.values.insert(cache.values.end(), plane.begin(), plane.end());
  ThreadPool threads(3);
  std::vector<std::string> names;
  for (const auto& codec : baselines()) {
    CAPTURE(codec->name());
    CHECK(codec->is_baseline());
    names.push_back(codec->name());
    std::vector<float> out(cache.values.size(), std::numeric_limits<float>::quiet_NaN());
    const std::uint64_t bits = codec->recode(cache, threads, out).value();
    CHECK(bits > 3 * out.size());
    CHECK(distance(out, std::vector<double>(cache.values.begin(), cache.values.end())) < 0.5);
    if (codec->name() == "q8_0") {
      std::vector<float> expected = plane;
      round_q8_0(rows_of(expected, {20, 2, 64, 0, 2}));
      for (std::size_t p = 0; p < cache.planes(); ++p)
        CHECK(std::memcmp(out.data() + p * plane.size(), expected.data(),
                          plane.size() * sizeof(float)) == 0);
    }
  }
  CHECK(names == std::vector<std::string>{"q8_0", "q4_0", "q4_0h", "kvarn4", "kvarn3", "cachegen"});
}

}  // namespace
}  // namespace kvferry
