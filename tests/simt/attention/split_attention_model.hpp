// The arithmetic of split_attention and its combination in plain C++, a head at a time.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <vector>

#include "cache_fixture.hpp"
#include "flash_prefill_model.hpp"
#include "key_score_model.hpp"

namespace kvferry::test {

struct PartitionModel {
  float maximum = 0;
  float sum = 0;
  std::vector<float> values;  // [head_dim]
};

inline PartitionModel partition_model(const Heads& heads, const Tokens& tokens,
                                      std::uint32_t kv_head, std::uint32_t position,
                                      std::uint32_t partition, const KeyScoreModel& query) {
  const std::uint32_t first = 128 * partition, dim = heads.head_dim;
  std::vector<float> scores(128, -std::numeric_limits<float>::infinity());
  for (std::uint32_t t = 0; t < 128 && first + t <= position; ++t) {
    scores[t] = query.score(tokens.key(heads, kv_head, first + t));
  }
  PartitionModel result;
  result.maximum = *std::max_element(scores.begin(), scores.end());
  std::vector<double> weights(128);
  std::vector<float> lanes(32);
  for (std::size_t t = 0; t < 128; ++t) {
    weights[t] =
        rounded_to_half(static_cast<double>(power_of_two(scores[t] - result.maximum) * 0.125f));
    lanes[t / 4] += static_cast<float>(weights[t]);
  }
  result.sum = butterfly_sum(lanes);
  for (std::uint32_t d = 0; d < dim; ++d) {
    float warps[4];
    for (std::uint32_t warp = 0; warp < 4; ++warp) {
      float chains[4];
      for (std::uint32_t c = 0; c < 4; ++c) {
        double chain = 0;
        for (std::uint32_t t = 32 * warp + 8 * c; t < 32 * warp + 8 * c + 8; ++t) {
          const bool is_seen = first + t <= position;
          const double value = is_seen ? tokens.value(heads, kv_head, first + t)[d] : 0.0;
          chain = half_fma(weights[t], value, chain);
        }
        chains[c] = static_cast<float>(chain);
      }
      warps[warp] = dim == 64 ? (chains[0] + chains[2]) + (chains[1] + chains[3])
                              : (chains[0] + chains[1]) + (chains[2] + chains[3]);
    }
    result.values.push_back(((warps[0] + warps[1]) + warps[2]) + warps[3]);
  }
  return result;
}

// [head_dim]
inline std::vector<float> combine_model(const std::vector<PartitionModel>& partitions) {
  float maximum = partitions[0].maximum, sum = 0.0f;
  for (const PartitionModel& p : partitions) maximum = std::max(maximum, p.maximum);
  std::vector<float> out(partitions[0].values.size());
  for (const PartitionModel& p : partitions) {
    const float decay = power_of_two(p.maximum - maximum);
    sum = std::fma(p.sum, decay, sum);
    for (std::size_t d = 0; d < out.size(); ++d) out[d] = std::fma(p.values[d], decay, out[d]);
  }
  for (float& v : out) v /= sum;
  return out;
}

}  // namespace kvferry::test
