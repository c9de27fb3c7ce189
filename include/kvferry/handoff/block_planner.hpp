// BlockPlanner: which blocks one source of a hand-off sends, of what size, and when each can be.
#pragma once

#include <algorithm>
#include <cassert>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "kvferry/cache/geometry.hpp"
#include "kvferry/codec/block.hpp"
#include "kvferry/core/result.hpp"
#include "kvferry/handoff/token_ranges.hpp"
#include "kvferry/wire/messages.hpp"

namespace kvferry {

// Most tokens of a block, for a receiver that takes payloads of `max_payload` bytes and has granted
// `credit`: two blocks fit into the credit where possible, so that one travels while the other is
// decoded. kResourceExhausted when not even one token fits.
inline Result<std::uint32_t> choose_block_tokens(const KvGeometry& geometry, std::uint64_t credit,
                                                 std::uint32_t max_payload) {
  const auto size = [&](std::uint32_t tokens) {
    return wire::kBlockHeadBytes + maximum_encoded_size(geometry, tokens);
  };
  const std::uint64_t most = std::min<std::uint64_t>(max_payload, credit);
  if (size(1) > most) {
    return Error(ErrorCode::kResourceExhausted,
                 "the receiver takes " + std::to_string(most) +
                     " bytes of blocks at a time; one token takes up to " +
                     std::to_string(size(1)));
  }
  std::uint32_t tokens = kMaxBlockTokens;
  while (tokens > 1 && size(tokens) > std::min<std::uint64_t>(most, credit / 2)) tokens /= 2;
  return tokens;
}

// Takes what the compute publishes, from the beginning on, and gives blocks once the receiver has
// said what it holds already: both planes of each row that was declared, once. A block that waits
// to be taken grows by the rows that follow it, so that small chunks make full blocks whenever the
// encoder or the receiver is what is waited for.
class BlockPlanner {
 public:
  // The parts of the offer's coverage that this source declares.
  explicit BlockPlanner(std::vector<wire::CoveragePart> parts) : parts_(std::move(parts)) {}

  // Tokens [begin, end) of a layer are final. kInvalidArgument when they were not declared, or were
  // published before.
  Status publish(std::uint32_t layer, std::uint32_t begin, std::uint32_t end);

  // Blocks of at most `block_tokens` tokens may be taken from now on; tokens below `begin` and the
  // rows of `held` are left out. `predicted`: blocks of one range of tokens are made one after the
  // other, and none grows, so that the layers are cut alike.
  void start(std::uint32_t begin, const std::vector<wire::ResumeRange>& held,
             std::uint32_t block_tokens, bool predicted = false);

  bool has_block() const { return next() != blocks_.end(); }
  // The next block; only when has_block().
  KvRange take() {
    assert(has_block());
    const auto at = next();
    const KvRange block = *at;
    blocks_.erase(at);
    ++taken_;
    if (predicted_) making_.insert({block.begin, block.end});
    return block;
  }
  // A block that was taken is made.
  void made(const KvRange& block) { making_.erase({block.begin, block.end}); }

  // Rows to be sent that are not marked as sent; after start().
  std::uint64_t rows_left() const { return rows_left_; }
  void mark_sent(const KvRange& block) { rows_left_ -= block.tokens(); }

  // Forgets the blocks.
  void clear() {
    blocks_.clear();
    last_.clear();
  }

 private:
  struct Rows {
    std::uint32_t layer;
    std::uint32_t begin;
    std::uint32_t end;
  };

  using LayerPlane = std::pair<std::uint32_t, Plane>;

  void cut(const Rows& rows);
  std::deque<KvRange>::const_iterator next() const {
    return std::find_if(blocks_.begin(), blocks_.end(), [this](const KvRange& block) {
      return making_.count({block.begin, block.end}) == 0;
    });
  }
  // The block that rows of `plane` were cut into last, while it waits; else nullptr.
  KvRange* last_waiting(const LayerPlane& plane) {
    const auto last = last_.find(plane);
    return predicted_ || last == last_.end() || last->second < taken_
               ? nullptr
               : &blocks_[last->second - taken_];
  }
  // Of one plane of `rows`, what is to be sent.
  std::vector<TokenRanges::Range> to_send(const Rows& rows, Plane plane) const {
    const std::uint32_t begin = std::max(rows.begin, begin_);
    if (begin >= rows.end) return {};
    const auto held = held_.find({rows.layer, plane});
    if (held == held_.end()) return {{begin, rows.end}};
    return held->second.missing_from(begin, rows.end);
  }

  std::vector<wire::CoveragePart> parts_;
  std::map<std::uint32_t, TokenRanges> published_;  // by layer
  std::vector<Rows> waiting_;                       // published before start()
  bool started_ = false;
  std::uint32_t begin_ = 0;
  std::uint32_t block_tokens_ = 0;
  std::map<LayerPlane, TokenRanges> held_;
  std::deque<KvRange> blocks_;  // that wait, the first of them block number taken_
  std::size_t taken_ = 0;
  std::map<LayerPlane, std::size_t> last_;  // number of the block that was cut last
  bool predicted_ = false;
  std::set<std::pair<std::uint32_t, std::uint32_t>> making_;  // tokens, of predicted blocks
  std::uint64_t rows_left_ = 0;
};

inline Status BlockPlanner::publish(std::uint32_t layer, std::uint32_t begin, std::uint32_t end) {
  const auto refuse = [&](const char* what) {
    return Error(ErrorCode::kInvalidArgument, "hand-off: layer " + std::to_string(layer) +
                                                  " tokens [" + std::to_string(begin) + ", " +
                                                  std::to_string(end) + ") " + what);
  };
  TokenRanges declared;
  for (const wire::CoveragePart& part : parts_) {
    if (layer >= part.first_layer && layer < part.end_layer) declared.add(part.begin, part.end);
  }
  if (begin >= end || !declared.missing_from(begin, end).empty()) {
    return refuse("are not part of what the offer declares for this source");
  }
  TokenRanges& published = published_[layer];
  if (published.overlaps(begin, end)) return refuse("were published before");
  published.add(begin, end);
  const Rows rows{layer, begin, end};
  if (started_) {
    cut(rows);
  } else {
    waiting_.push_back(rows);
  }
  return {};
}

inline void BlockPlanner::start(std::uint32_t begin, const std::vector<wire::ResumeRange>& held,
                                std::uint32_t block_tokens, bool predicted) {
  started_ = true;
  predicted_ = predicted;
  begin_ = begin;
  block_tokens_ = block_tokens;
  for (const wire::ResumeRange& r : held) held_[{r.layer, r.plane}].add(r.begin, r.end);
  for (const wire::CoveragePart& part : parts_) {
    for (std::uint32_t layer = part.first_layer; layer < part.end_layer; ++layer) {
      for (const Plane plane : {Plane::kKey, Plane::kValue}) {
        for (const auto& range : to_send(Rows{layer, part.begin, part.end}, plane))
          rows_left_ += range.second - range.first;
      }
    }
  }
  for (const Rows& rows : waiting_) cut(rows);
  waiting_.clear();
}

inline void BlockPlanner::cut(const Rows& rows) {
  for (const Plane plane : {Plane::kKey, Plane::kValue}) {
    const LayerPlane layer_plane{rows.layer, plane};
    for (const auto& range : to_send(rows, plane)) {
      std::uint32_t at = range.first;
      if (KvRange* const last = last_waiting(layer_plane); last != nullptr && last->end == at) {
        at += std::min(range.second - at, block_tokens_ - last->tokens());
        last->end = at;
      }
      while (at < range.second) {
        const std::uint32_t end = at + std::min(range.second - at, block_tokens_);
        last_[layer_plane] = taken_ + blocks_.size();
        blocks_.push_back(KvRange{rows.layer, plane, at, end});
        at = end;
      }
    }
  }
}

}  // namespace kvferry
