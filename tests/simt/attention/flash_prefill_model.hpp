// The arithmetic of flash_prefill in plain C++, a row of a head at a time.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <vector>

#include "cache_fixture.hpp"

namespace kvferry::test {

inline float power_of_two(float x) {
  const float result = std::exp2(x);
  return result < std::numeric_limits<float>::min() ? 0.0f : result;
}

// [head_dim] F16 numbers.
inline std::vector<double> flash_prefill_model(const Heads& heads, const Tokens& tokens,
                                               std::uint32_t kv_head, std::uint32_t position,
                                               const double* q) {
  const std::uint32_t dim = heads.head_dim, tile = 4096 / dim;
  const float scale = static_cast<float>(1.0 / std::sqrt(static_cast<double>(dim)));
  const float factor = scale * 1.44269504f;
  float maximum = -std::numeric_limits<float>::infinity();
  float sums[4] = {};
  std::vector<float> values(dim, 0.0f), scores(tile), query(q, q + dim);
  for (std::uint32_t first = 0; first <= position; first += tile) {
    const std::uint32_t seen = std::min(tile, position + 1 - first);
    const float before = maximum;
    for (std::uint32_t t = 0; t < seen; ++t) {
      const double* key = tokens.key(heads, kv_head, first + t);
      float score = 0.0f;
      for (std::uint32_t d = 0; d < dim; ++d) score += query[d] * static_cast<float>(key[d]);
      scores[t] = score;
      maximum = std::max(maximum, score);
    }
    const float decay = power_of_two((before - maximum) * factor);
    float tile_sums[4] = {};
    for (float& v : values) v *= decay;
    for (std::uint32_t t = 0; t < seen; ++t) {
      const float weight = static_cast<float>(
          rounded_to_half(static_cast<double>(power_of_two((scores[t] - maximum) * factor))));
      tile_sums[t / 2 % 4] += weight;
      const double* value = tokens.value(heads, kv_head, first + t);
      for (std::uint32_t d = 0; d < dim; ++d) values[d] += weight * static_cast<float>(value[d]);
    }
    for (int i = 0; i < 4; ++i) sums[i] = std::fma(sums[i], decay, tile_sums[i]);
  }
  const float inverse = 1.0f / ((sums[0] + sums[1]) + (sums[2] + sums[3]));
  std::vector<double> out(dim);
  for (std::uint32_t d = 0; d < dim; ++d) {
    out[d] = rounded_to_half(static_cast<double>(values[d] * inverse));
  }
  return out;
}

}  // namespace kvferry::test
