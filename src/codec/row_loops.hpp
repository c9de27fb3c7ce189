// The loops of row_kernels.hpp in plain code. Each instruction set's source includes this once and
// is compiled with its own flags, hence the internal linkage.
#pragma once

#include <cstring>

#include "kvferry/core/half.hpp"

#include "row_kernels.hpp"

namespace kvferry {
namespace {  // NOLINT(google-build-namespaces): see above
// NOLINTBEGIN(misc-definitions-in-headers): likewise

template <typename T>
T load_value(const std::uint8_t* at) {
  T value;
  std::memcpy(&value, at, sizeof value);
  return value;
}
template <typename T>
void store_value(T value, std::uint8_t* at) {
  std::memcpy(at, &value, sizeof value);
}

float clamped(float value, float most) {
  const float below = value < most ? value : most;
  return below > -most ? below : -most;
}

void load(ElementType type, const std::uint8_t* row, std::size_t count, float* floats) {
  switch (type) {
    case ElementType::kF16:
      for (std::size_t i = 0; i < count; ++i) floats[i] = to_float(load_value<Half>(row + 2 * i));
      return;
    case ElementType::kBF16:
      for (std::size_t i = 0; i < count; ++i)
        floats[i] = to_float(load_value<BFloat16>(row + 2 * i));
      return;
    case ElementType::kF32:
      std::memcpy(floats, row, 4 * count);
      return;
  }
}

constexpr float kLargestHalf = 65504.0f;
constexpr float kLargestBFloat16 = 3.38953139e38f;

void store(ElementType type, const float* floats, std::size_t count, std::uint8_t* row) {
  switch (type) {
    case ElementType::kF16:
      for (std::size_t i = 0; i < count; ++i)
        store_value(to_half(clamped(floats[i], kLargestHalf)), row + 2 * i);
      return;
    case ElementType::kBF16:
      for (std::size_t i = 0; i < count; ++i)
        store_value(to_bfloat16(clamped(floats[i], kLargestBFloat16)), row + 2 * i);
      return;
    case ElementType::kF32:
      std::memcpy(row, floats, 4 * count);
      return;
  }
}

// From pair `first` on. The layout and the direction are known when compiling, so that the loop
// over pairs vectorises.
template <bool kSplit, bool kInverse>
void rotate_heads(std::size_t first, const RowRotation& r, float* row) {
  const std::size_t pairs = r.pairs;
  for (std::size_t h = 0; h < r.heads; ++h, row += r.head_dim) {
    for (std::size_t i = first; i < pairs; ++i) {
      float& a = kSplit ? row[i] : row[2 * i];
      float& b = kSplit ? row[i + pairs] : row[2 * i + 1];
      const float s = kInverse ? -r.sin[i] : r.sin[i];
      const float x = a;
      const float y = b;
      a = x * r.cos[i] - y * s;
      b = x * s + y * r.cos[i];
    }
  }
}

void rotate_from(std::size_t first, const RowRotation& r, bool inverse, float* row) {
  if (r.layout == RopeLayout::kSplitHalves) {
    inverse ? rotate_heads<true, true>(first, r, row) : rotate_heads<true, false>(first, r, row);
  } else {
    inverse ? rotate_heads<false, true>(first, r, row) : rotate_heads<false, false>(first, r, row);
  }
}

void add(const float* row, std::size_t count, float* sums) {
  for (std::size_t i = 0; i < count; ++i) sums[i] += row[i];
}

void add_squares(const float* row, const float* means, std::size_t count, float* sums) {
  for (std::size_t i = 0; i < count; ++i) {
    const float d = row[i] - means[i];
    sums[i] += d * d;
  }
}

bool quantise(const float* row, const float* means, const float* inverse_steps, std::size_t count,
              std::int16_t* quantised) {
  constexpr float kMost = 32767.0f;
  constexpr float kShift = 12582912.0f;  // 1.5 * 2^23: adding it leaves the integer lowest
  std::uint32_t outside = 0;
  for (std::size_t i = 0; i < count; ++i) {
    const float x = (row[i] - means[i]) * inverse_steps[i];
    outside |= !(x <= kMost && x >= -kMost);
    quantised[i] = static_cast<std::int16_t>(float_bits(x + kShift));
  }
  return outside == 0;
}

void dequantise(const std::int16_t* quantised, const float* steps, const float* means,
                std::size_t count, float* row) {
  for (std::size_t i = 0; i < count; ++i)
    row[i] = static_cast<float>(quantised[i]) * steps[i] + means[i];
}

// From channel `first` on.
void tile_to_runs_from(std::size_t first, const std::int16_t* tile, std::size_t tokens,
                       std::size_t channels, const std::size_t* begins, std::int16_t* values) {
  for (std::size_t c = first; c < channels; ++c) {
    std::int16_t* run = values + begins[c];
    for (std::size_t t = 0; t < tokens; ++t) run[t] = tile[t * channels + c];
  }
}

void runs_to_tile_from(std::size_t first, const std::int16_t* values, const std::size_t* begins,
                       std::size_t tokens, std::size_t channels, std::int16_t* tile) {
  for (std::size_t c = first; c < channels; ++c) {
    const std::int16_t* run = values + begins[c];
    for (std::size_t t = 0; t < tokens; ++t) tile[t * channels + c] = run[t];
  }
}

// `end` is above every magnitude, and at most kMagnitudes.
void count_below(const std::int16_t* values, std::size_t count, std::size_t end,
                 std::uint32_t* counts) {
  const auto magnitude = [values](std::size_t i) {
    const std::int32_t v = values[i] < 0 ? -values[i] : values[i];
    constexpr std::int32_t kLast = kMagnitudes - 1;
    return v < kLast ? v : kLast;
  };
  std::size_t i = 0;
  if (count >= end) {
    // Four tables, as the same magnitude often comes again at once.
    std::uint32_t more[3][kMagnitudes];
    for (auto& table : more) std::memset(table, 0, end * sizeof table[0]);
    for (; i + 4 <= count; i += 4) {
      ++counts[magnitude(i)];
      ++more[0][magnitude(i + 1)];
      ++more[1][magnitude(i + 2)];
      ++more[2][magnitude(i + 3)];
    }
    for (std::size_t m = 0; m < end; ++m) counts[m] += more[0][m] + more[1][m] + more[2][m];
  }
  for (; i < count; ++i) ++counts[magnitude(i)];
}

std::size_t symbols_of_values(const std::int16_t* values, std::size_t count, std::uint32_t raw_bits,
                              std::int32_t most, std::uint8_t* symbols) {
  const std::int32_t half = (1 << raw_bits) / 2;
  for (std::size_t i = 0; i < count; ++i) {
    const std::int32_t symbol = ((values[i] + half) >> raw_bits) + most;
    if (symbol < 0 || symbol > 2 * most) return i;
    symbols[i] = static_cast<std::uint8_t>(symbol);
  }
  return count;
}

std::size_t symbols_of_pairs(const std::int16_t* values, std::size_t pairs, std::int32_t most,
                             std::int32_t most_sum, std::uint8_t* symbols) {
  for (std::size_t i = 0; i < pairs; ++i) {
    const std::int32_t a = values[2 * i];
    const std::int32_t b = values[2 * i + 1];
    const std::int32_t first = a < 0 ? -a : a;
    const std::int32_t second = b < 0 ? -b : b;
    if (first > most || second > most || first + second > most_sum) return i;
    symbols[i] = static_cast<std::uint8_t>((a + most) * (2 * most + 1) + b + most);
  }
  return pairs;
}

void take_bits(const std::int16_t* values, std::size_t count, std::int32_t offset,
               std::uint32_t bit, std::uint8_t* bits) {
  for (std::size_t i = 0; i < count; i += 8) {
    std::uint32_t byte = 0;
    for (std::size_t n = 0; n < 8 && i + n < count; ++n)
      byte |= (static_cast<std::uint32_t>(values[i + n] + offset) >> bit & 1u) << n;
    bits[i / 8] = static_cast<std::uint8_t>(byte);
  }
}

// From value `first` on, a multiple of 8.
void widen_from(std::size_t first, const std::int8_t* kept, std::size_t count,
                std::uint32_t raw_bits, const std::uint8_t* planes, std::int16_t* values) {
  const std::int32_t half = (1 << raw_bits) / 2;
  const std::size_t plane = (count + 7) / 8;
  for (std::size_t i = first; i < count; ++i) {
    std::int32_t value = kept[i] * (1 << raw_bits) - half;
    for (std::uint32_t bit = 0; bit < raw_bits; ++bit)
      value += (planes[bit * plane + i / 8] >> (i % 8) & 1) << bit;
    values[i] = static_cast<std::int16_t>(value);
  }
}

// Rows [begin, end) of the product, from column `first` on; each sum grows in the order of `inner`.
void multiply_part(std::size_t begin, std::size_t end, std::size_t first, const ProductShape& shape,
                   const float* x, const float* m, float* out) {
  for (std::size_t r = begin; r < end; ++r) {
    float* sums = out + r * shape.columns;
    for (std::size_t c = first; c < shape.columns; ++c) sums[c] = 0.0f;
    for (std::size_t i = 0; i < shape.inner; ++i) {
      const float factor = x[r * shape.inner + i];
      const float* row = m + i * shape.columns;
      for (std::size_t c = first; c < shape.columns; ++c) sums[c] += factor * row[c];
    }
  }
}

// NOLINTEND(misc-definitions-in-headers)
}  // namespace
}  // namespace kvferry
