// What a row of logits says: its normalisation and its largest entries.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <numeric>
#include <vector>

#include "kvferry/cache/source_sink.hpp"
#include "kvferry/core/span.hpp"

namespace kvferry {

// ln of the sum of exp(logits), in double. Of at least one logit.
inline double log_sum_exp(Span<const float> logits) {
  const double largest = *std::max_element(logits.begin(), logits.end());
  double sum = 0;
  for (const float l : logits) sum += std::exp(static_cast<double>(l) - largest);
  return largest + std::log(sum);
}

// The tokens of the `count` largest logits, or of all, largest first, the lower id first among
// equals. `logits` hold no NaN.
inline std::vector<TokenId> top_tokens(Span<const float> logits, std::size_t count) {
  std::vector<TokenId> ids(logits.size());
  std::iota(ids.begin(), ids.end(), TokenId{0});
  count = std::min(count, ids.size());
  std::partial_sort(
      ids.begin(), ids.begin() + static_cast<std::ptrdiff_t>(count), ids.end(),
      [&](TokenId a, TokenId b) { return logits[a] != logits[b] ? logits[a] > logits[b] : a < b; });
  ids.resize(count);
  return ids;
}

}  // namespace kvferry
