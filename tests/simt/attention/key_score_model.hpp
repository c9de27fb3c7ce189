// The arithmetic of key_scores.cuh in plain C++.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

#include "half_arithmetic.hpp"

namespace kvferry::test {

// One product and sum, rounded once.
inline double half_fma(double a, double b, double c) {
  return rounded_to_half(std::fma(a, b, c));
}

class KeyScoreModel {
 public:
  explicit KeyScoreModel(const float* q, std::uint32_t head_dim) : query_(head_dim) {
    float largest = 0.0f;
    for (std::uint32_t d = 0; d < head_dim; ++d) largest = std::max(largest, std::fabs(q[d]));
    const int exponent =
        largest == 0.0f ? -100 : std::min(std::max(std::ilogb(largest), -100), 100);
    for (std::uint32_t d = 0; d < head_dim; ++d) {
      query_[d] = rounded_to_half(std::ldexp(static_cast<double>(q[d]), -exponent - 4));
    }
    const float scale = static_cast<float>(1.0 / std::sqrt(static_cast<double>(head_dim)));
    factor_ = std::ldexp(scale * 1.44269504f, exponent + 4);
  }

  float score(const double* key) const {
    float sum = 0.0f;
    for (std::size_t d = 0; d < query_.size(); d += 16) {
      double chain[2] = {};
      for (std::size_t i = 0; i < 16; ++i) {
        chain[i % 2] = half_fma(key[d + i], query_[d + i], chain[i % 2]);
      }
      sum += static_cast<float>(chain[0]);
      sum += static_cast<float>(chain[1]);
    }
    return sum * factor_;
  }

 private:
  std::vector<double> query_;
  float factor_;
};

// Of 32 lanes as a butterfly.
inline float butterfly_sum(std::vector<float> lanes) {
  for (std::size_t distance = 16; distance > 0; distance /= 2) {
    std::vector<float> next(lanes.size());
    for (std::size_t i = 0; i < lanes.size(); ++i) next[i] = lanes[i] + lanes[i ^ distance];
    lanes = next;
  }
  return lanes[0];
}

}  // namespace kvferry::test
