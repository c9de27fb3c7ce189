#include <algorithm>
#include <cmath>
#include <vector>

#include "kvferry/core/half.hpp"
#include "kvferry/quality/baselines.hpp"

namespace kvferry {
namespace {

constexpr std::size_t kTileTokens = 128;
constexpr int kIterations = 16;

float as_half(float x) {
  return to_float(to_half(x));
}

// A [tokens, channels] matrix and a scale for each of its rows and columns.
struct Tile {
  std::size_t tokens;
  std::size_t channels;
  std::vector<float> values;         // [tokens, channels]
  std::vector<float> token_scale;    // [tokens]
  std::vector<float> channel_scale;  // [channels]

  Tile(std::size_t t, std::size_t c)
      : tokens(t), channels(c), values(t * c), token_scale(t, 1.0f), channel_scale(c, 1.0f) {}

  float balanced(std::size_t t, std::size_t c) const {
    return values[t * channels + c] / (token_scale[t] * channel_scale[c]);
  }

  // Standard deviations about zero of the balanced rows or columns; 1 where all is zero.
  std::vector<float> token_deviations() const {
    std::vector<float> out(tokens);
    for (std::size_t t = 0; t < tokens; ++t) {
      float sum = 0.0f;
      for (std::size_t c = 0; c < channels; ++c) sum += balanced(t, c) * balanced(t, c);
      out[t] = sum > 0.0f ? std::sqrt(sum / static_cast<float>(channels)) : 1.0f;
    }
    return out;
  }
  std::vector<float> channel_deviations() const {
    std::vector<float> sums(channels, 0.0f);
    for (std::size_t t = 0; t < tokens; ++t) {
      for (std::size_t c = 0; c < channels; ++c) sums[c] += balanced(t, c) * balanced(t, c);
    }
    for (float& s : sums) s = s > 0.0f ? std::sqrt(s / static_cast<float>(tokens)) : 1.0f;
    return sums;
  }

  // Scales rows and columns in turn until their deviations are all about 1.
  void balance() {
    for (int i = 0; i < kIterations; ++i) {
      const std::vector<float> channel = channel_deviations();
      for (std::size_t c = 0; c < channels; ++c) channel_scale[c] *= channel[c];
      const std::vector<float> token = token_deviations();
      for (std::size_t t = 0; t < tokens; ++t) token_scale[t] *= token[t];
    }
  }

  // Rounds to `levels` levels, symmetric about zero. The step of a row is made to reach its largest
  // value.
  void round(int levels) {
    const float top = static_cast<float>(levels) / 2.0f - 0.5f;
    for (float& s : channel_scale) s = as_half(s);
    for (std::size_t t = 0; t < tokens; ++t) {
      float largest = 0.0f;
      for (std::size_t c = 0; c < channels; ++c)
        largest = std::max(largest, std::fabs(values[t * channels + c] / channel_scale[c]));
      const float step = as_half(largest / top);
      for (std::size_t c = 0; c < channels; ++c) {
        const float scale = step * channel_scale[c];
        float& x = values[t * channels + c];
        // Levels lie at odd multiples of half a step.
        const float level = scale != 0.0f ? std::floor(x / scale) + 0.5f : 0.0f;
        x = std::max(-top, std::min(top, level)) * scale;
      }
    }
  }
};

}  // namespace

std::uint64_t round_kvarn(const PlaneRows& rows, int bits) {
  const std::size_t dim = rows.head_dim;
  const std::size_t transform = dim & (~dim + 1);
  std::uint64_t total = 16 * rows.kv_heads * dim;  // token 0
  for (std::size_t first = 1; first < rows.tokens; first += kTileTokens) {
    const std::size_t tokens = std::min(kTileTokens, rows.tokens - first);
    for (std::size_t h = 0; h < rows.kv_heads; ++h) {
      Tile tile(tokens, dim);
      const auto row = [&](std::size_t t) {
        return rows.values.data() + ((first + t) * rows.kv_heads + h) * dim;
      };
      for (std::size_t t = 0; t < tokens; ++t)
        std::copy_n(row(t), dim, tile.values.begin() + static_cast<std::ptrdiff_t>(t * dim));
      hadamard(tile.values, transform);
      tile.balance();
      tile.round(1 << bits);
      hadamard(tile.values, transform);
      for (std::size_t t = 0; t < tokens; ++t)
        std::copy_n(tile.values.begin() + static_cast<std::ptrdiff_t>(t * dim), dim, row(t));
      total += tokens * dim * static_cast<std::uint64_t>(bits) + 16 * (tokens + dim);
    }
  }
  for (std::size_t i = 0; i < rows.kv_heads * dim; ++i) rows.values[i] = as_half(rows.values[i]);
  return total;
}

}  // namespace kvferry
