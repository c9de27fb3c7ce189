// DecodedRows: what blocks are predicted from, the decoded rows of the layers before.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <utility>
#include <vector>

#include "kvferry/cache/geometry.hpp"
#include "kvferry/codec/predictor.hpp"
#include "kvferry/core/half.hpp"

namespace kvferry {

// Of one stream of blocks, shared by the coders that work on it; any thread may call. Rows are kept
// until every block that could be predicted from them has come. Beyond `most_bytes` those of the
// tokens that were begun first are forgotten.
class DecodedRows {
 public:
  // [tokens, kv_heads * head_dim], K before RoPE.
  using Rows = std::shared_ptr<const std::vector<Half>>;

  // For blocks that `predictor` predicts.
  DecodedRows(const Predictor& predictor, std::size_t most_bytes)
      : layers_(static_cast<std::uint32_t>(predictor.layers().size())),
        depth_(predictor.depth()),
        most_bytes_(most_bytes) {}

  // Enough for a stream of `tokens` tokens that is predicted throughout, in whatever order its
  // blocks come: twice the rows of `depth` + 1 layers.
  static std::size_t bytes_for(const Predictor& predictor, std::uint32_t tokens);

  // The rows of `plane` of exactly the tokens of `range`; null when they are not here.
  Rows find(const KvRange& range, KvPlane plane) const;

  // The block of `range` was coded. Null: by a method whose rows nothing is predicted from. A block
  // that was there before begins a new stream of its tokens.
  void add(const KvRange& range, Rows rows);

 private:
  using Tokens = std::pair<std::uint32_t, std::uint32_t>;
  // One range of tokens.
  struct Entry {
    std::vector<Rows> rows;  // [layers, plane]
    std::vector<bool> came;  // likewise
    std::size_t coming = 0;  // planes that did not come yet
    std::size_t bytes = 0;
    std::uint64_t begun = 0;  // number of the entry
  };

  std::size_t index_of(std::uint32_t layer, Plane plane) const {
    return std::size_t{2} * layer + static_cast<std::size_t>(plane);
  }
  Entry& begin(const Tokens& tokens);
  void drop_unneeded(Entry& entry, std::uint32_t layer);
  void erase(const Tokens& tokens);

  const std::uint32_t layers_;
  const std::uint32_t depth_;
  const std::size_t most_bytes_;
  mutable std::mutex mutex_;  // of what follows
  std::map<Tokens, Entry> entries_;
  std::map<std::uint64_t, Tokens> by_age_;
  std::uint64_t begun_ = 0;
  std::size_t bytes_ = 0;
};

}  // namespace kvferry
