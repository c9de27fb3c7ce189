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

// The index of the largest logit, the lowest of several.
inline std::size_t argmax(Span<const float> logits) {
  return static_cast<std::size_t>(std::max_element(logits.begin(), logits.end()) - logits.begin());
}

// How far one row of logits is from another, and what that does to the token that came.
struct RowDivergence {
  double kl = 0.0;        // KL(reference ‖ other), nats; NaN when either row holds a NaN
  double loss = 0.0;      // increase of -ln p(target), nats
  bool same_top = false;  // the largest logit is that of the same token
};

// Of the distributions that two rows of logits stand for, computed in F64. Both rows have the same
// size; `target` is an index of it.
inline RowDivergence diverge(Span<const float> reference, Span<const float> other,
                             std::size_t target) {
  assert(reference.size() == other.size() && target < reference.size());
  const auto largest_of = [](Span<const float> logits) {
    return static_cast<double>(*std::max_element(logits.begin(), logits.end()));
  };
  const double largest = largest_of(reference);
  const double other_largest = largest_of(other);
  double sum = 0.0, other_sum = 0.0, difference = 0.0;
  for (std::size_t i = 0; i < reference.size(); ++i) {
    const double x = static_cast<double>(reference[i]) - largest;
    const double y = static_cast<double>(other[i]) - other_largest;
    const double e = std::exp(x);
    sum += e;
    other_sum += std::exp(y);
    if (e != 0.0) difference += e * (x - y);
    if (std::isnan(y)) difference = y;
  }
  const double log_ratio = std::log(other_sum) - std::log(sum);
  RowDivergence d;
  d.kl = difference / sum + log_ratio;
  d.loss = (static_cast<double>(reference[target]) - largest) -
           (static_cast<double>(other[target]) - other_largest) + log_ratio;
  d.same_top = argmax(reference) == argmax(other);
  return d;
}

inline double kl_divergence(Span<const float> reference, Span<const float> other) {
  return diverge(reference, other, 0).kl;
}

// Of many rows.
struct Divergence {
  std::size_t rows = 0;
  double mean = 0.0;  // of the rows' KL divergences, nats
  // The smallest that at least this share of the rows do not exceed.
  double median = 0.0;
  double p99 = 0.0;
  double p999 = 0.0;
  double max = 0.0;
  double top1 = 0.0;  // share of the rows whose largest logit is the same, 0 to 1
  double loss = 0.0;  // mean increase of -ln p(target): that of the logarithm of the perplexity
};

// Collects rows one by one.
class DivergenceMeter {
 public:
  void add(const RowDivergence& row) { rows_.push_back(row); }
  void add(Span<const float> reference, Span<const float> other) {
    add(diverge(reference, other, 0));
  }

  // Of all rows so far; zeros when there are none, NaN when a row had a NaN.
  Divergence result() const {
    Divergence d;
    d.rows = rows_.size();
    if (d.rows == 0) return d;
    std::vector<double> sorted;
    double sum = 0.0, agreements = 0.0;
    for (const RowDivergence& row : rows_) {
      sorted.push_back(row.kl);
      sum += row.kl;
      d.loss += row.loss;
      agreements += row.same_top ? 1.0 : 0.0;
    }
    const double rows = static_cast<double>(d.rows);
    d.mean = sum / rows;
    d.loss /= rows;
    d.top1 = agreements / rows;
    if (std::isnan(sum)) {
      d.median = d.p99 = d.p999 = d.max = sum;
      return d;
    }
    std::sort(sorted.begin(), sorted.end());
    const auto smallest_above = [&sorted](std::size_t thousandths) {
      return sorted[(sorted.size() * thousandths + 999) / 1000 - 1];
    };
    d.median = smallest_above(500);
    d.p99 = smallest_above(990);
    d.p999 = smallest_above(999);
    d.max = sorted.back();
    return d;
  }

 private:
  std::vector<RowDivergence> rows_;
};

}  // namespace kvferry
