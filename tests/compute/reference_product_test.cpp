#include "kvferry/compute/reference_product.hpp"

#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <vector>

#include <catch2/catch.hpp>

#include "kvferry/compute/cpu/isa.hpp"

#include "src/compute/reference_kernels.hpp"

namespace kvferry {
namespace {

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

std::vector<float> random_values(std::size_t count, unsigned seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal;
  std::vector<float> values(count);
  for (float& v : values) v = normal(random);
  return values;
}

// An F32 matrix from values that outlive the call only as bytes.
ReferenceMatrix matrix_of(const std::vector<float>& values, std::size_t rows, std::size_t columns,
                          ThreadPool& pool) {
  TensorView view;
  view.type = TensorType::kF32;
  view.rows = rows;
  view.columns = columns;
  view.data = as_bytes(Span<const float>(values));
  return ReferenceMatrix::load(view, pool).value();
}

// The tables that this machine can run.
std::vector<const reference::Kernels*> tables() {
  std::vector<const reference::Kernels*> found = {reference::portable_kernels()};
  for (const cpu::Isa isa : cpu::available_isas()) {
    if (isa == cpu::Isa::kAvx2) found.push_back(reference::avx2_kernels());
    if (isa == cpu::Isa::kAvx512Vnni) found.push_back(reference::avx512_kernels());
  }
  return found;
}

TEST_CASE("a matrix is loaded as it is") {
  ThreadPool pool(2);
  const std::vector<float> values = random_values(33 * 7, 1);
  const ReferenceMatrix m = matrix_of(values, 33, 7, pool);
  REQUIRE(m.rows() == 33);
  REQUIRE(m.columns() == 7);
  for (std::size_t r = 0; r < 33; ++r) {
    for (std::size_t c = 0; c < 7; ++c) CHECK(m.at(r, c) == values[r * 7 + c]);
  }
}

TEST_CASE("bytes that do not fill the shape are refused") {
  ThreadPool pool(1);
  const std::vector<float> values(12);
  TensorView view;
  view.data = as_bytes(Span<const float>(values));
  for (const auto& [rows, columns] : {std::pair<std::uint64_t, std::uint64_t>{5, 3},
                                      {3, 5},
                                      {0, 12},
                                      {12, 0},
                                      {std::uint64_t{1} << 62, 4}}) {
    view.rows = rows;
    view.columns = columns;
    const auto result = ReferenceMatrix::load(view, pool);
    REQUIRE(!result.ok());
    CHECK(result.error().code == ErrorCode::kMalformed);
  }
}

TEST_CASE("both products are the definition's, for every size of tail") {
  ThreadPool pool(2);
  std::vector<float> packed;
  for (const std::size_t outputs : {1u, 15u, 16u, 17u, 50u}) {
    for (const std::size_t columns : {1u, 31u, 576u}) {
      for (const std::size_t rows : {1u, 2u, 5u, 12u, 13u, 29u}) {
        CAPTURE(outputs, columns, rows);
        const std::vector<float> weights = random_values(outputs * columns, 2);
        const std::vector<float> x = random_values(rows * columns, 3);
        const ReferenceMatrix m = matrix_of(weights, outputs, columns, pool);
        const std::size_t stride = outputs + 3;
        std::vector<float> plain(rows * stride, kNan), blocked(rows * stride, kNan);
        multiply_plain(m, x.data(), rows, plain.data(), stride);
        multiply_blocked(m, x.data(), rows, blocked.data(), stride, pool, packed);
        bool close = true, fenced = true;
        for (std::size_t r = 0; r < rows; ++r) {
          for (std::size_t o = 0; o < stride; ++o) {
            const float a = plain[r * stride + o];
            const float b = blocked[r * stride + o];
            if (o >= outputs) {
              fenced = fenced && std::isnan(a) && std::isnan(b);
              continue;
            }
            double exact = 0.0;
            double magnitude = 0.0;
            for (std::size_t i = 0; i < columns; ++i) {
              const double term =
                  static_cast<double>(x[r * columns + i]) * weights[o * columns + i];
              exact += term;
              magnitude += std::fabs(term);
            }
            // A chain of n roundings: at most n * 2^-24 of the sum of magnitudes.
            const double bound = magnitude * static_cast<double>(columns + 1) * 0x1p-24;
            close = close && std::fabs(static_cast<double>(a) - exact) <= bound &&
                    std::fabs(static_cast<double>(b) - exact) <= bound;
          }
        }
        CHECK(close);
        CHECK(fenced);
      }
    }
  }
}

TEST_CASE("a row of the blocked product has the same bits in any company, on any threads") {
  constexpr std::size_t kOutputs = 70, kColumns = 96, kRows = 31;
  ThreadPool one(1), three(3);
  const std::vector<float> x = random_values(kRows * kColumns, 4);
  const ReferenceMatrix m =
      matrix_of(random_values(kOutputs * kColumns, 5), kOutputs, kColumns, one);
  std::vector<float> packed, expected(kRows * kOutputs);
  multiply_blocked(m, x.data(), kRows, expected.data(), kOutputs, one, packed);
  for (ThreadPool* pool : {&one, &three}) {
    for (std::size_t rows = 1; rows <= kRows; ++rows) {
      for (const std::size_t first : {std::size_t{0}, kRows - rows}) {
        CAPTURE(rows, first, pool->thread_count());
        std::vector<float> out(rows * kOutputs, kNan);
        multiply_blocked(m, x.data() + first * kColumns, rows, out.data(), kOutputs, *pool, packed);
        CHECK(std::memcmp(out.data(), expected.data() + first * kOutputs,
                          out.size() * sizeof(float)) == 0);
      }
    }
  }
}

TEST_CASE("every instruction set's kernels compute the definition") {
  for (const reference::Kernels* kernels : tables()) {
    CAPTURE(kernels->tile_rows);
    REQUIRE(kernels->tile_rows <= reference::kMaxRows);
    for (int rows = 1; rows <= kernels->tile_rows; ++rows) {
      CAPTURE(rows);
      constexpr std::size_t kColumns = 43;
      const std::size_t n = static_cast<std::size_t>(rows);
      const std::vector<float> panel = random_values(kColumns * reference::kPanel, 6);
      const std::vector<float> x = random_values(kColumns * n, 7);
      std::vector<float> out(n * reference::kPanel + 1, kNan);
      kernels->tile(panel.data(), x.data(), kColumns, rows, out.data());
      bool close = std::isnan(out.back());
      for (std::size_t r = 0; r < n; ++r) {
        for (std::size_t lane = 0; lane < reference::kPanel; ++lane) {
          double exact = 0.0;
          for (std::size_t k = 0; k < kColumns; ++k)
            exact += static_cast<double>(x[k * n + r]) * panel[k * reference::kPanel + lane];
          close = close &&
                  std::fabs(static_cast<double>(out[r * reference::kPanel + lane]) - exact) <= 1e-4;
        }
      }
      CHECK(close);
    }
    for (const std::size_t width : {2u, 16u, 30u, 64u, 128u}) {
      CAPTURE(width);
      constexpr std::size_t kTokens = 21;
      const std::vector<float> q = random_values(width, 8);
      const std::vector<float> rows = random_values(kTokens * width, 9);
      std::vector<float> scores(kTokens + 1, kNan), sum(width + 1, 1.0f);
      sum.back() = kNan;
      kernels->scores(q.data(), rows.data(), kTokens, width, 0.25f, scores.data());
      kernels->weighted_sum(scores.data(), rows.data(), kTokens, width, sum.data());
      bool close = std::isnan(scores.back()) && std::isnan(sum.back());
      for (std::size_t t = 0; t < kTokens; ++t) {
        double exact = 0.0;
        for (std::size_t i = 0; i < width; ++i)
          exact += 0.25 * static_cast<double>(q[i]) * rows[t * width + i];
        close = close && std::fabs(static_cast<double>(scores[t]) - exact) <= 1e-4;
      }
      for (std::size_t i = 0; i < width; ++i) {
        double exact = 1.0;
        for (std::size_t t = 0; t < kTokens; ++t)
          exact += static_cast<double>(scores[t]) * rows[t * width + i];
        close = close && std::fabs(static_cast<double>(sum[i]) - exact) <= 1e-4;
      }
      CHECK(close);
    }
  }
}

}  // namespace
}  // namespace kvferry
