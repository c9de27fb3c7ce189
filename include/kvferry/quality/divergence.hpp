// How far one set of logits is from another: Kullback-Leibler divergence and agreement of the
// largest.
#pragma once

#include <algorithm>
#include <cassert>
#include <cmath>
#include <cstddef>
#include <vector>

#include "kvferry/core/span.hpp"

namespace kvferry {

// KL(reference ‖ other) in nats, of the distributions that two rows of logits stand for. Computed
// in F64; NaN when either row holds a NaN.
inline double kl_divergence(Span<const float> reference, Span<const float> other) {
  assert(reference.size() == other.size() && !reference.empty());
  const auto log_sum = [](Span<const float> logits) {
    const double largest = static_cast<double>(*std::max_element(logits.begin(), logits.end()));
    double sum = 0.0;
    for (const float l : logits) sum += std::exp(static_cast<double>(l) - largest);
    return largest + std::log(sum);
  };
  const double reference_sum = log_sum(reference);
  const double other_sum = log_sum(other);
  double kl = 0.0;
  for (std::size_t i = 0; i < reference.size(); ++i) {
    const double log_p = static_cast<double>(reference[i]) - reference_sum;
    const double log_q = static_cast<double>(other[i]) - other_sum;
    kl += std::exp(log_p) * (log_p - log_q);
  }
  return kl;
}

// The index of the largest logit, the lowest of several.
inline std::size_t argmax(Span<const float> logits) {
  return static_cast<std::size_t>(std::max_element(logits.begin(), logits.end()) - logits.begin());
}

// Of many rows.
struct Divergence {
  std::size_t rows = 0;
  double mean = 0.0;  // of the rows' KL divergences, nats
  double p99 = 0.0;   // the smallest that at least 99 % of the rows do not exceed
  double max = 0.0;
  double top1 = 0.0;  // share of the rows whose largest logit is the same, 0 to 1
};

// Collects rows one by one.
class DivergenceMeter {
 public:
  void add(Span<const float> reference, Span<const float> other) {
    divergences_.push_back(kl_divergence(reference, other));
    agreements_ += argmax(reference) == argmax(other) ? 1 : 0;
  }

  // Of all rows so far; zeros when there are none, NaN when a row had a NaN.
  Divergence result() const {
    Divergence d;
    d.rows = divergences_.size();
    if (d.rows == 0) return d;
    double sum = 0.0;
    for (const double kl : divergences_) sum += kl;
    d.mean = sum / static_cast<double>(d.rows);
    d.top1 = static_cast<double>(agreements_) / static_cast<double>(d.rows);
    if (std::isnan(sum)) {
      d.p99 = d.max = sum;
      return d;
    }
    std::vector<double> sorted = divergences_;
    std::sort(sorted.begin(), sorted.end());
    d.p99 = sorted[(d.rows * 99 + 99) / 100 - 1];
    d.max = sorted.back();
    return d;
  }

 private:
  std::vector<double> divergences_;
  std::size_t agreements_ = 0;
};

}  // namespace kvferry
