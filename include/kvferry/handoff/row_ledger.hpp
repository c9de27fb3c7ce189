// RowLedger: which rows of a hand-off have come, and with which block.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

#include "kvferry/cache/geometry.hpp"
#include "kvferry/core/hash.hpp"

namespace kvferry {

// One tag of 32 bits for each (layer, plane, token) of tokens [begin, end): 0 while the row is
// missing, afterwards a digest of the block that brought it. That tells a block that comes twice
// from one that contradicts another, in memory that does not depend on how a peer cuts its blocks.
class RowLedger {
 public:
  RowLedger(std::uint32_t layers, std::uint32_t begin, std::uint32_t end)
      : begin_(begin), end_(end) {
    tags_.resize(std::size_t{2} * layers * (end - begin), 0);
  }

  enum class Claim { kAdded, kDuplicate, kConflict };

  // Claims the rows of `range`, which lies inside, for the block with that payload hash. kDuplicate
  // when this very block came before; kConflict, without effect, when another one has some row.
  Claim claim(const KvRange& range, std::uint64_t payload_hash) {
    const std::uint32_t tag = tag_of(range, payload_hash);
    std::uint32_t* const rows = tags_.data() + index(range.layer, range.plane, range.begin);
    bool all_free = true;
    bool all_same = true;
    for (std::uint32_t i = 0; i < range.tokens(); ++i) {
      all_free = all_free && rows[i] == 0;
      all_same = all_same && rows[i] == tag;
    }
    if (all_same) return Claim::kDuplicate;
    if (!all_free) return Claim::kConflict;
    for (std::uint32_t i = 0; i < range.tokens(); ++i) rows[i] = tag;
    return Claim::kAdded;
  }

  // The first missing row among `layers` [first, end) and tokens [begin, end).
  std::optional<KvRange> first_missing(std::uint32_t first_layer, std::uint32_t end_layer,
                                       std::uint32_t begin, std::uint32_t end) const {
    for (std::uint32_t layer = first_layer; layer < end_layer; ++layer) {
      for (const Plane plane : {Plane::kKey, Plane::kValue}) {
        for (std::uint32_t token = begin; token < end; ++token) {
          if (tags_[index(layer, plane, token)] == 0)
            return KvRange{layer, plane, token, token + 1};
        }
      }
    }
    return std::nullopt;
  }

 private:
  static std::uint32_t tag_of(const KvRange& range, std::uint64_t payload_hash) {
    const std::uint64_t parts[3] = {payload_hash, range.begin, range.end};
    const std::uint32_t tag =
        static_cast<std::uint32_t>(hash64(as_bytes(Span<const std::uint64_t>(parts))));
    return tag == 0 ? 1 : tag;
  }
  std::size_t index(std::uint32_t layer, Plane plane, std::uint32_t token) const {
    const std::size_t row = std::size_t{2} * layer + static_cast<std::size_t>(plane);
    return row * (end_ - begin_) + (token - begin_);
  }

  std::uint32_t begin_;
  std::uint32_t end_;
  std::vector<std::uint32_t> tags_;  // [layers, plane, tokens]
};

}  // namespace kvferry
