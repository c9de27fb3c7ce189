// Token classes: how finely each token of a layer is quantised, from the attention that it gets.
#pragma once

#include <algorithm>
#include <cassert>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "kvferry/codec/block.hpp"
#include "kvferry/core/span.hpp"

namespace kvferry {

// classes[t], as BlockSpec takes them, from attention[t], the mean of the squared attention weights
// that the last queries of a chunk pay to token t (PrefillRequest::attention). Both are one layer's
// of one chunk.
//
// An error in a token's rows reaches the output in proportion to the weight that it gets, so steps
// that cost the least for a given output error go as (mean a^2)^(-1/4), here relative to the
// chunk's median. Classes are the nearest powers of two, but never coarser than the profile's step:
// what nobody has looked at yet may be what a later question is about.
//
// NaN and negative values count as 0.
inline void token_classes(Span<const float> attention, Span<std::uint8_t> classes) {
  assert(attention.size() == classes.size());
  if (attention.empty()) return;
  std::vector<float> sorted;
  sorted.reserve(attention.size());
  for (const float a : attention) sorted.push_back(a > 0.0f ? a : 0.0f);
  const auto middle = sorted.begin() + static_cast<std::ptrdiff_t>(sorted.size() / 2);
  std::nth_element(sorted.begin(), middle, sorted.end());
  // A quarter of log2(a / median) rounds to 1 from 1/2 and to 2 from 3/2.
  const float from_1 = *middle * 4.0f;
  const float from_2 = *middle * 64.0f;
  for (std::size_t t = 0; t < attention.size(); ++t) {
    const float a = attention[t] > 0.0f ? attention[t] : 0.0f;
    classes[t] = static_cast<std::uint8_t>((a > from_1 ? 1 : 0) + (a > from_2 ? 1 : 0));
  }
}

}  // namespace kvferry
