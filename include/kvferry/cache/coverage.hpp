// KvCoverage: which rows of an import have arrived.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "kvferry/cache/geometry.hpp"

namespace kvferry {

// One bit for each (layer, plane, token) of tokens [begin, end). Not synchronised.
class KvCoverage {
 public:
  KvCoverage(const KvGeometry& geometry, std::uint32_t begin, std::uint32_t end)
      : first_layer_(geometry.first_layer),
        begin_(begin),
        end_(end),
        missing_(std::uint64_t{2} * geometry.layers * (end - begin)),
        seen_(missing_, false) {}

  // Marks the rows of `range`, a valid range of the geometry. Each row may be claimed once:
  // kProtocol for a duplicate or overlap, kInvalidArgument outside of the import; nothing is marked
  // then.
  Status claim(const KvRange& range) {
    if (range.begin < begin_ || range.end > end_) {
      return Error(ErrorCode::kInvalidArgument, to_string(range) + ": the import covers tokens [" +
                                                    std::to_string(begin_) + ", " +
                                                    std::to_string(end_) + ")");
    }
    const auto first = seen_.begin() + static_cast<std::ptrdiff_t>(index(range));
    for (std::uint32_t i = 0; i < range.tokens(); ++i) {
      if (first[i]) {
        return Error(ErrorCode::kProtocol, to_string(range) + ": token " +
                                               std::to_string(range.begin + i) +
                                               " was already written");
      }
    }
    for (std::uint32_t i = 0; i < range.tokens(); ++i) first[i] = true;
    missing_ -= range.tokens();
    return Status();
  }

  // Success when every row was claimed, else kIncomplete with the first one missing.
  Status complete() const {
    if (missing_ == 0) return Status();
    std::size_t at = 0;
    while (seen_[at]) ++at;
    const std::size_t tokens = end_ - begin_;
    return Error(ErrorCode::kIncomplete,
                 "KV import: " + std::to_string(missing_) + " of " + std::to_string(seen_.size()) +
                     " rows are missing, the first is layer " +
                     std::to_string(first_layer_ + at / tokens / 2) + " " +
                     name_of(at / tokens % 2 == 0 ? Plane::kKey : Plane::kValue) + " token " +
                     std::to_string(begin_ + at % tokens));
  }

 private:
  std::size_t index(const KvRange& r) const {
    const std::size_t plane =
        std::size_t{2} * (r.layer - first_layer_) + static_cast<std::size_t>(r.plane);
    return plane * (end_ - begin_) + (r.begin - begin_);
  }

  std::uint32_t first_layer_;
  std::uint32_t begin_;
  std::uint32_t end_;
  std::uint64_t missing_;
  std::vector<bool> seen_;  // [layers, plane, tokens]
};

}  // namespace kvferry
