#include "int8_groups.hpp"

#include <algorithm>
#include <cassert>
#include <cmath>

#include "kvferry/core/half.hpp"

namespace kvferry {
namespace {

constexpr float kMaxSymbol = 127.0f;
constexpr std::uint16_t kHalfInfinity = 0x7c00;

// The least F16 scale with kMaxSymbol * scale >= largest; infinity or NaN when there is none.
Half scale_for(float largest) {
  Half scale = to_half(largest / kMaxSymbol);
  if (scale.bits < kHalfInfinity && to_float(scale) * kMaxSymbol < largest) ++scale.bits;
  return scale;
}

// To the nearest integer, ties to even, for |x| < 2^22: two additions, which vectorise everywhere
// and round alike on every machine.
float nearest(float x) {
  constexpr float kShift = 12582912.0f;  // 1.5 * 2^23
  return (x + kShift) - kShift;
}

}  // namespace

bool encode_int8_groups(Span<const float> values, std::uint32_t head_dim, MutableBytes scales,
                        MutableBytes symbols) {
  assert(symbols.size() == values.size());
  std::size_t s = 0;
  for (std::size_t head = 0; head < values.size(); head += head_dim) {
    for (std::size_t g = 0; g < head_dim; g += kGroupValues, s += 2) {
      const std::size_t count = std::min<std::size_t>(kGroupValues, head_dim - g);
      const float* in = values.data() + head + g;
      std::uint8_t* out = symbols.data() + head + g;
      // As integers, every NaN and infinity is above every finite magnitude, and gives such a
      // scale.
      std::uint32_t largest_bits = 0;
      for (std::size_t i = 0; i < count; ++i)
        largest_bits = std::max(largest_bits, float_bits(in[i]) & 0x7fffffffu);
      const Half scale = scale_for(float_from_bits(largest_bits));
      if (scale.bits >= kHalfInfinity) return false;
      scales[s] = static_cast<std::uint8_t>(scale.bits);
      scales[s + 1] = static_cast<std::uint8_t>(scale.bits >> 8);
      const float step = to_float(scale);
      const float inverse = step > 0 ? 1.0f / step : 0.0f;
      for (std::size_t i = 0; i < count; ++i) {
        const float q = std::max(-kMaxSymbol, std::min(kMaxSymbol, nearest(in[i] * inverse)));
        out[i] = static_cast<std::uint8_t>(static_cast<std::int8_t>(q));
      }
    }
  }
  return true;
}

bool decode_int8_groups(Bytes scales, Bytes symbols, std::uint32_t head_dim, Span<float> values) {
  assert(symbols.size() == values.size());
  std::size_t s = 0;
  for (std::size_t head = 0; head < values.size(); head += head_dim) {
    for (std::size_t g = 0; g < head_dim; g += kGroupValues, s += 2) {
      const std::size_t count = std::min<std::size_t>(kGroupValues, head_dim - g);
      const Half scale{static_cast<std::uint16_t>(scales[s] | scales[s + 1] << 8)};
      if (scale.bits >= kHalfInfinity) return false;
      const float step = to_float(scale);
      const std::uint8_t* in = symbols.data() + head + g;
      float* out = values.data() + head + g;
      for (std::size_t i = 0; i < count; ++i)
        out[i] = static_cast<float>(static_cast<std::int8_t>(in[i])) * step;
    }
  }
  return true;
}

}  // namespace kvferry
