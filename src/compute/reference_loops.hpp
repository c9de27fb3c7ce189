// The kernels of path::Reference over a vector type V of kPanel floats. Each instruction set's
// source includes this once and is compiled with its own flags, hence the internal linkage.
#pragma once

#include <cstddef>

#include "reference_kernels.hpp"

namespace kvferry::reference {
namespace {  // NOLINT(google-build-namespaces): see above

// V: load, store, broadcast, zero, multiply_add(a, b, c) = a * b + c, sum() that adds the upper
// half of the lanes to the lower one until one is left; V::kTileRows.
template <typename V, int kRows>
void tile_of(const float* panel, const float* x, std::size_t columns, float* out) {
  V sums[kRows];
  for (int r = 0; r < kRows; ++r) sums[r] = V::zero();
  for (std::size_t k = 0; k < columns; ++k) {
    const V w = V::load(panel + k * kPanel);
    for (int r = 0; r < kRows; ++r) {
      sums[r] =
          V::multiply_add(V::broadcast(x[k * kRows + static_cast<std::size_t>(r)]), w, sums[r]);
    }
  }
  for (int r = 0; r < kRows; ++r) sums[r].store(out + r * kPanel);
}

template <typename V, int kRows>
void tile_up_to(const float* panel, const float* x, std::size_t columns, int rows, float* out) {
  if (rows == kRows) {
    tile_of<V, kRows>(panel, x, columns, out);
  } else if constexpr (kRows > 1) {
    tile_up_to<V, kRows - 1>(panel, x, columns, rows, out);
  }
}

template <typename V>
void tile(const float* panel, const float* x, std::size_t columns, int rows, float* out) {
  tile_up_to<V, V::kTileRows>(panel, x, columns, rows, out);
}

template <typename V>
void scores(const float* q, const float* keys, std::size_t tokens, std::size_t width, float scale,
            float* result) {
  for (std::size_t t = 0; t < tokens; ++t) {
    const float* key = keys + t * width;
    V sums = V::zero();
    std::size_t i = 0;
    for (; i + kPanel <= width; i += kPanel) {
      sums = V::multiply_add(V::load(q + i), V::load(key + i), sums);
    }
    float sum = sums.sum();
    for (; i < width; ++i) sum += q[i] * key[i];
    result[t] = sum * scale;
  }
}

template <typename V>
void weighted_sum(const float* weights, const float* values, std::size_t tokens, std::size_t width,
                  float* out) {
  std::size_t i = 0;
  for (; i + kPanel <= width; i += kPanel) {
    V sum = V::load(out + i);
    for (std::size_t t = 0; t < tokens; ++t) {
      sum = V::multiply_add(V::broadcast(weights[t]), V::load(values + t * width + i), sum);
    }
    sum.store(out + i);
  }
  for (; i < width; ++i) {
    for (std::size_t t = 0; t < tokens; ++t) out[i] += weights[t] * values[t * width + i];
  }
}

template <typename V>
constexpr Kernels table_of() {
  return Kernels{V::kTileRows, &tile<V>, &scores<V>, &weighted_sum<V>};
}

}  // namespace
}  // namespace kvferry::reference
