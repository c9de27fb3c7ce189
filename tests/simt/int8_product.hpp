// INT8 operands, and products of them by a plain loop. C++14.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <random>
#include <vector>

#include "device_array.hpp"
#include "kernels/gemm_s8_launch.cuh"

namespace int8_product {

inline std::vector<std::int8_t> random_quants(std::size_t count, unsigned seed) {
  std::mt19937 engine(seed);
  std::vector<std::int8_t> values(count);
  for (std::int8_t& v : values) v = static_cast<std::int8_t>(engine() >> 24);
  return values;
}
inline std::vector<float> random_floats(std::size_t count, unsigned seed, float low, float high) {
  std::mt19937 engine(seed);
  std::uniform_real_distribution<float> uniform(low, high);
  std::vector<float> values(count);
  for (float& v : values) v = uniform(engine);
  return values;
}

// A [m, k], B [n, k], their scales, and the sums of their products, [m, n].
struct Operands {
  int m, n, k;
  std::vector<std::int8_t> a, b;
  std::vector<float> a_scale, b_scale;
  std::vector<std::int32_t> sums;

  Operands(int rows, int columns, int inner, unsigned seed)
      : m(rows),
        n(columns),
        k(inner),
        a(random_quants(static_cast<std::size_t>(rows) * inner, seed)),
        b(random_quants(static_cast<std::size_t>(columns) * inner, seed + 1)),
        a_scale(random_floats(rows, seed + 2, 1e-3f, 2e-2f)),
        b_scale(random_floats(columns, seed + 3, 1e-3f, 2e-2f)) {
    // The ends of the range, and the largest sum that there can be.
    for (int i = 0; i < k; ++i) a[i] = b[i] = -128;
    for (int i = 0; i < k && n > 1; ++i) b[k + i] = 127;
    multiply();
  }

  void multiply() {
    sums.assign(static_cast<std::size_t>(m) * n, 0);
    for (int i = 0; i < m; ++i) {
      for (int j = 0; j < n; ++j) {
        const std::int8_t* x = a.data() + static_cast<std::size_t>(i) * k;
        const std::int8_t* y = b.data() + static_cast<std::size_t>(j) * k;
        std::int32_t sum = 0;
        for (int c = 0; c < k; ++c) sum += x[c] * y[c];
        sums[static_cast<std::size_t>(i) * n + j] = sum;
      }
    }
  }

  std::size_t index(int row, int column) const {
    return static_cast<std::size_t>(row) * n + column;
  }
  // The value that an epilogue starts from, and in double.
  float scaled(int row, int column) const {
    return static_cast<float>(sums[index(row, column)]) * a_scale[row];
  }
  double exact(int row, int column) const {
    return static_cast<double>(sums[index(row, column)]) * a_scale[row] * b_scale[column];
  }
};

// The same in device memory.
struct DeviceOperands {
  kvferry_test::DeviceArray<std::int8_t> a, b;
  kvferry_test::DeviceArray<float> a_scale, b_scale;
  kvferry::kernels::GemmS8Operands view;

  explicit DeviceOperands(const Operands& o)
      : a(o.a), b(o.b), a_scale(o.a_scale), b_scale(o.b_scale) {
    view = {a.data(), a_scale.data(), b.data(), b_scale.data(), o.m, o.n, o.k};
  }
};

// All tiles with all numbers of stages.
inline std::vector<kvferry::kernels::GemmS8Choice> every_choice() {
  std::vector<kvferry::kernels::GemmS8Choice> choices;
  for (const kvferry::kernels::GemmS8Tile tile : kvferry::kernels::kGemmS8Tiles) {
    for (int stages = 3; stages <= 5; ++stages) choices.push_back({tile, stages});
  }
  return choices;
}

// Values that are not the same bits; NaN equals NaN of the same bits alone.
template <typename T>
std::size_t differences(const std::vector<T>& a, const std::vector<T>& b) {
  if (a.size() != b.size()) return a.size() + b.size() + 1;
  std::size_t count = 0;
  for (std::size_t i = 0; i < a.size(); ++i) count += std::memcmp(&a[i], &b[i], sizeof(T)) != 0;
  return count;
}

}  // namespace int8_product
