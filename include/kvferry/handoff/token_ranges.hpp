// TokenRanges: a set of token positions, as disjoint ranges.
#pragma once

#include <algorithm>
#include <cstdint>
#include <iterator>
#include <map>
#include <utility>
#include <vector>

namespace kvferry {

class TokenRanges {
 public:
  using Range = std::pair<std::uint32_t, std::uint32_t>;  // [first, second)

  // Whether any token of [begin, end) is in the set.
  bool overlaps(std::uint32_t begin, std::uint32_t end) const {
    const auto next = ranges_.upper_bound(begin);
    if (next != ranges_.end() && next->first < end) return true;
    return next != ranges_.begin() && std::prev(next)->second > begin;
  }

  // Adds [begin, end), which is not empty; joins what touches it.
  void add(std::uint32_t begin, std::uint32_t end) {
    auto next = ranges_.upper_bound(begin);
    if (next != ranges_.begin() && std::prev(next)->second >= begin) --next;
    while (next != ranges_.end() && next->first <= end) {
      begin = std::min(begin, next->first);
      end = std::max(end, next->second);
      next = ranges_.erase(next);
    }
    ranges_.emplace(begin, end);
  }

  // The parts of [begin, end) that are not in the set, in order.
  std::vector<Range> missing_from(std::uint32_t begin, std::uint32_t end) const {
    std::vector<Range> missing;
    auto next = ranges_.upper_bound(begin);
    if (next != ranges_.begin()) begin = std::max(begin, std::prev(next)->second);
    for (; next != ranges_.end() && next->first < end; ++next) {
      if (begin < next->first) missing.emplace_back(begin, next->first);
      begin = next->second;
    }
    if (begin < end) missing.emplace_back(begin, end);
    return missing;
  }

 private:
  std::map<std::uint32_t, std::uint32_t> ranges_;  // begin to end
};

}  // namespace kvferry
