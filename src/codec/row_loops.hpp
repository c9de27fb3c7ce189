// The loops of row_kernels.hpp in plain code. Each instruction set's source includes this once and
// is compiled with its own flags, hence the internal linkage.
#pragma once

#include <cstring>

#include "kvferry/core/half.hpp"

#include "row_kernels.hpp"

namespace kvferry {
namespace {  // NOLINT(google-build-namespaces): see above

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

// The layout and the direction are known when compiling, so that the loop over pairs vectorises.
template <bool kSplit, bool kInverse>
void rotate_heads(const RowRotation& r, float* row) {
  const std::size_t pairs = r.pairs;
  for (std::size_t h = 0; h < r.heads; ++h, row += r.head_dim) {
    for (std::size_t i = 0; i < pairs; ++i) {
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

void rotate(const RowRotation& r, bool inverse, float* row) {
  if (r.layout == RopeLayout::kSplitHalves) {
    inverse ? rotate_heads<true, true>(r, row) : rotate_heads<true, false>(r, row);
  } else {
    inverse ? rotate_heads<false, true>(r, row) : rotate_heads<false, false>(r, row);
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

}  // namespace
}  // namespace kvferry
