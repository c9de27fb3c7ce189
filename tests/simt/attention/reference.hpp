// Attention in F64, with what a kernel's error may be.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "cache_fixture.hpp"

namespace kvferry::test {

// One head of a query at `position`.
struct ReferenceHead {
  std::vector<double> weights;    // [position + 1], sum 1
  std::vector<double> out;        // [head_dim]
  std::vector<double> magnitude;  // [head_dim] weighted sum of |value|
  double largest_value = 0;       // of the values seen
  double products = 0;            // largest sum of |q * k| * scale of a key
};

inline ReferenceHead reference_head(const Heads& heads, const Tokens& tokens, std::uint32_t kv_head,
                                    std::uint32_t position, const double* q) {
  ReferenceHead result;
  const double scale = 1.0 / std::sqrt(static_cast<double>(heads.head_dim));
  double largest = -1e300;
  for (std::uint32_t t = 0; t <= position; ++t) {
    const double* key = tokens.key(heads, kv_head, t);
    double score = 0, products = 0;
    for (std::uint32_t d = 0; d < heads.head_dim; ++d) {
      score += q[d] * key[d];
      products += std::fabs(q[d] * key[d]);
    }
    result.weights.push_back(score * scale);
    result.products = std::max(result.products, products * scale);
    largest = std::max(largest, score * scale);
  }
  double sum = 0;
  for (double& w : result.weights) sum += w = std::exp(w - largest);
  result.out.resize(heads.head_dim);
  result.magnitude.resize(heads.head_dim);
  for (std::uint32_t t = 0; t <= position; ++t) {
    result.weights[t] /= sum;
    const double* value = tokens.value(heads, kv_head, t);
    for (std::uint32_t d = 0; d < heads.head_dim; ++d) {
      result.out[d] += result.weights[t] * value[d];
      result.magnitude[d] += result.weights[t] * std::fabs(value[d]);
      result.largest_value = std::max(result.largest_value, std::fabs(value[d]));
    }
  }
  return result;
}

// The unit roundoffs.
constexpr double kHalfRoundoff = 1.0 / 2048;
constexpr double kFloatRoundoff = 1.0 / 16777216;

// What a kernel does, as errors: of a score, relative to the sum of its products' magnitudes; of a
// weight, absolute, where the largest is 1; of the weighted sum, relative to that of magnitudes.
struct ErrorModel {
  double score;
  double weight;
  double sum;
};

// The bound of |out - reference| in dimension d: weights that are off by a factor of at most
// e^(2 score error) and 1 + 2 roundoffs, and absolutely; sums; the result's rounding to F16.
inline double tolerance(const ErrorModel& error, const ReferenceHead& r, std::size_t d) {
  // The scores' own rounding and that of the exponential in F32, and F16 of the weights.
  const double factor = std::exp(2 * error.score * r.products) - 1 + 2 * kHalfRoundoff +
                        64 * kFloatRoundoff * (1 + r.products);
  const double absolute = error.weight * static_cast<double>(r.weights.size());
  return 2 * (factor + error.sum) * r.magnitude[d] + 2 * absolute * r.largest_value +
         kHalfRoundoff * std::fabs(r.out[d]) + std::ldexp(1.0, -24);
}

}  // namespace kvferry::test
