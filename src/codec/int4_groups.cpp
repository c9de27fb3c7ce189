#include "int4_groups.hpp"

#include <algorithm>
#include <cassert>
#include <cstddef>

#include "kvferry/core/half.hpp"

namespace kvferry {
namespace {

constexpr std::uint16_t kHalfInfinity = 0x7c00;

// 1 / root of 1, 2, 4, … 32.
constexpr float kNormal[] = {1.0f, 0x1.6a09e6p-1f, 0.5f, 0x1.6a09e6p-2f, 0.25f, 0x1.6a09e6p-3f};

// Its own inverse.
void transform(float* group, std::size_t count) {
  std::size_t size = 1;
  std::size_t log2 = 0;
  for (; count % (2 * size) == 0; ++log2) size *= 2;
  for (std::size_t half = 1; half < size; half *= 2) {
    for (std::size_t at = 0; at < count; at += 2 * half) {
      for (std::size_t i = at; i < at + half; ++i) {
        const float a = group[i];
        const float b = group[i + half];
        group[i] = a + b;
        group[i + half] = a - b;
      }
    }
  }
  for (std::size_t i = 0; i < count; ++i) group[i] *= kNormal[log2];
}

// The least F16 scale with 16 scale >= largest; infinity or NaN when there is none.
Half scale_for(float largest) {
  Half scale = to_half(largest / 16);
  if (scale.bits < kHalfInfinity && to_float(scale) * 16 < largest) ++scale.bits;
  return scale;
}

}  // namespace

bool encode_int4_groups(Span<const float> values, std::uint32_t head_dim, MutableBytes scales,
                        MutableBytes symbols) {
  assert(2 * symbols.size() == values.size());
  std::size_t s = 0;
  for (std::size_t head = 0; head < values.size(); head += head_dim) {
    for (std::size_t g = 0; g < head_dim; g += kGroupValues, s += 2) {
      const std::size_t count = std::min<std::size_t>(kGroupValues, head_dim - g);
      float group[kGroupValues];
      std::copy_n(values.data() + head + g, count, group);
      transform(group, count);
      // As integers, every NaN and infinity is above every finite magnitude.
      std::uint32_t largest_bits = 0;
      for (std::size_t i = 0; i < count; ++i)
        largest_bits = std::max(largest_bits, float_bits(group[i]) & 0x7fffffffu);
      const Half scale = scale_for(float_from_bits(largest_bits));
      if (scale.bits >= kHalfInfinity) return false;
      scales[s] = static_cast<std::uint8_t>(scale.bits);
      scales[s + 1] = static_cast<std::uint8_t>(scale.bits >> 8);
      const float half_step = to_float(scale);
      const float inverse = half_step > 0 ? 0.5f / half_step : 0.0f;
      const auto symbol_of = [inverse](float v) {
        // v / (2 scale) + 8 is within 0..16; truncation finds the level's cell.
        const auto level = static_cast<std::int32_t>(v * inverse + 8.0f);
        return static_cast<std::uint8_t>(std::max(0, std::min(15, level)));
      };
      // head_dim is even, and so is every group.
      std::uint8_t* out = symbols.data() + (head + g) / 2;
      for (std::size_t i = 0; i < count; i += 2) {
        out[i / 2] = static_cast<std::uint8_t>(symbol_of(group[i]) | symbol_of(group[i + 1]) << 4);
      }
    }
  }
  return true;
}

bool decode_int4_groups(Bytes scales, Bytes symbols, std::uint32_t head_dim, Span<float> values) {
  assert(2 * symbols.size() == values.size());
  std::size_t s = 0;
  for (std::size_t head = 0; head < values.size(); head += head_dim) {
    for (std::size_t g = 0; g < head_dim; g += kGroupValues, s += 2) {
      const std::size_t count = std::min<std::size_t>(kGroupValues, head_dim - g);
      const Half scale{static_cast<std::uint16_t>(scales[s] | scales[s + 1] << 8)};
      if (scale.bits >= kHalfInfinity) return false;
      const float half_step = to_float(scale);
      const std::uint8_t* in = symbols.data() + (head + g) / 2;
      float* out = values.data() + head + g;
      for (std::size_t i = 0; i < count; i += 2) {
        out[i] = static_cast<float>(2 * (in[i / 2] & 15) - 15) * half_step;
        out[i + 1] = static_cast<float>(2 * (in[i / 2] >> 4) - 15) * half_step;
      }
      transform(out, count);
    }
  }
  return true;
}

}  // namespace kvferry
