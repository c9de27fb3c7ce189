// BlockCoverage: which rows came in blocks, for a geometry that only the peer vouches for.
#pragma once

#include <cstdint>
#include <iterator>
#include <map>
#include <string>
#include <utility>

#include "kvferry/cache/geometry.hpp"
#include "kvferry/core/result.hpp"

namespace kvferry::wire {

// Ranges that touch are joined, so that memory grows with the blocks that arrived out of order and
// not with the geometry that was announced. For an import of known geometry see KvCoverage.
class BlockCoverage {
 public:
  // kProtocol when a row of `range` came before; nothing is claimed then. `range` is not empty.
  Status claim(const KvRange& range) {
    const std::uint64_t plane = plane_of(range.layer, range.plane);
    auto after = ranges_.lower_bound({plane, range.begin});
    const bool hits_after =
        after != ranges_.end() && after->first.first == plane && after->first.second < range.end;
    const auto before = after == ranges_.begin() ? ranges_.end() : std::prev(after);
    const bool same_before = before != ranges_.end() && before->first.first == plane;
    if (hits_after || (same_before && before->second > range.begin)) {
      return Error(ErrorCode::kProtocol, to_string(range) + ": some of it came before");
    }
    std::uint32_t end = range.end;
    if (after != ranges_.end() && after->first == Key(plane, range.end)) {
      end = after->second;
      ranges_.erase(after);
    }
    if (same_before && before->second == range.begin) {
      before->second = end;
    } else {
      ranges_[{plane, range.begin}] = end;
    }
    return {};
  }

  // Success when tokens [0, tokens) of both planes of layers [0, layers) came, else kIncomplete
  // that names the first missing row.
  Status complete(std::uint32_t layers, std::uint32_t tokens) const {
    for (std::uint64_t plane = 0; plane < 2 * std::uint64_t{layers}; ++plane) {
      const auto found = ranges_.find({plane, 0});
      const std::uint32_t end = found == ranges_.end() ? 0 : found->second;
      if (end >= tokens) continue;
      return Error(ErrorCode::kIncomplete,
                   "layer " + std::to_string(plane / 2) + " " +
                       name_of(plane % 2 == 0 ? Plane::kKey : Plane::kValue) + " token " +
                       std::to_string(end) + " is the first that did not come");
    }
    return {};
  }

 private:
  using Key = std::pair<std::uint64_t, std::uint32_t>;

  static std::uint64_t plane_of(std::uint32_t layer, Plane plane) {
    return 2 * std::uint64_t{layer} + static_cast<std::uint64_t>(plane);
  }

  std::map<Key, std::uint32_t> ranges_;  // (plane, begin) -> end; disjoint, none touch
};

}  // namespace kvferry::wire
