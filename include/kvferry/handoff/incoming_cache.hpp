// IncomingCache: what has come of the cache of an accepted offer, row by row and source by source.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "kvferry/cache/geometry.hpp"
#include "kvferry/core/result.hpp"
#include "kvferry/handoff/block_credit.hpp"
#include "kvferry/handoff/incoming_block.hpp"
#include "kvferry/handoff/prediction_order.hpp"
#include "kvferry/handoff/row_ledger.hpp"
#include "kvferry/handoff/terms.hpp"
#include "kvferry/wire/digest.hpp"
#include "kvferry/wire/frame.hpp"
#include "kvferry/wire/serialize.hpp"
#include "kvferry/wire/token_ids.hpp"

namespace kvferry {

// Checks every frame with a part of the cache against the offer and against what came before, and
// holds the blocks until they are taken to be written.
class IncomingCache {
 public:
  // Tokens below `begin` were not to be sent. Each source may have `window` payload bytes under way
  // or waiting to be written. `predicted`: blocks may be predicted from others.
  void start(const wire::Offer& offer, std::uint32_t begin, std::uint64_t window, bool predicted);

  // What comes from `source`, one of the offer's that has not ended; after start(). kProtocol for
  // what was not offered or contradicts what came, kUnsupported for a profile that this build does
  // not decode, kMalformed, kResourceExhausted when too much waits for what it is predicted from,
  // and of END kIncomplete and kChecksum.
  Status on_first_token(Bytes payload);
  Status on_block(std::size_t link, std::uint16_t source, wire::Frame& frame);
  Status on_end(std::uint16_t source, Bytes payload);

  // Once, as soon as it is there; the cache is not complete before it is answered.
  std::optional<wire::FirstToken> take_first_token() {
    return std::exchange(first_token_, std::nullopt);
  }
  void first_token_taken() { first_token_answered_ = true; }
  // The next block that can be decoded; each is answered by one of the other two.
  std::optional<IncomingBlock> take_block();
  void block_written(const IncomingBlock& block, std::uint16_t source);
  void block_failed() { --blocks_out_; }
  // Forgets what was not taken.
  void clear();

  // kResourceExhausted when the hand-off might stand still: blocks that wait for what they are
  // predicted from keep their credit, and half of it has to be left for what they wait for.
  Status check_waiting() const;

  // The new total, once `source` has to be told that it may send more.
  std::optional<wire::Credit> take_credit(std::uint16_t source);

  bool has_ended(std::uint16_t source) const;
  // Every source has sent its END.
  bool all_ended() const;
  // Moreover, every block was written and the first token was taken.
  bool is_complete() const {
    return all_ended() && blocks_out_ == 0 && blocks_.empty() && (!order_ || order_->empty()) &&
           (!first_token_came_ || first_token_answered_);
  }

  std::size_t blocks_out() const { return blocks_out_; }  // taken and not answered
  std::uint64_t blocks() const { return total().blocks(); }
  std::uint64_t payload_bytes() const;
  // Of all blocks of all sources.
  std::uint64_t digest() const { return total().value(); }
  std::uint64_t duplicates() const { return duplicates_; }  // blocks that came again

 private:
  // What came of one source.
  struct Account {
    BlockCredit credit;
    wire::HandoffDigest digest;
    std::uint64_t payload_bytes = 0;  // of its blocks in the digest
    bool ended = false;
  };

  Status check_place(const KvRange& range, std::uint16_t source) const;
  Status check_rows(std::uint16_t source) const;
  wire::HandoffDigest total() const;

  std::vector<wire::CoveragePart> coverage_;
  bool needs_first_token_ = false;
  std::uint32_t begin_ = 0;
  std::optional<RowLedger> rows_;
  std::map<std::uint16_t, Account> accounts_;  // by source
  std::uint32_t vocab_ = 0;
  bool first_token_came_ = false;
  bool first_token_answered_ = false;
  std::optional<wire::FirstToken> first_token_;
  std::uint64_t window_ = 0;
  std::deque<IncomingBlock> blocks_;      // that can be decoded
  std::optional<PredictionOrder> order_;  // of a predicted hand-off
  std::size_t blocks_out_ = 0;
  std::uint64_t duplicates_ = 0;
};

inline void IncomingCache::start(const wire::Offer& offer, std::uint32_t begin,
                                 std::uint64_t window, bool predicted) {
  coverage_ = offer.coverage;
  needs_first_token_ = offer.decode.has_value();
  vocab_ = offer.identity.vocab;
  begin_ = begin;
  window_ = window;
  const auto end = static_cast<std::uint32_t>(offer.tokens.size());
  rows_.emplace(offer.layers, begin, end);
  if (predicted) order_.emplace(offer.layers, begin, end);
  for (const wire::CoveragePart& part : coverage_) accounts_[part.source].credit.open(window);
}

inline Status IncomingCache::on_first_token(Bytes payload) {
  if (!needs_first_token_ || first_token_came_) {
    return Error(ErrorCode::kProtocol, first_token_came_
                                           ? "a second FIRST_TOKEN of one hand-off"
                                           : "FIRST_TOKEN, but the offer has no decode order");
  }
  KVFERRY_ASSIGN(const wire::FirstToken first, wire::parse_first_token(payload));
  KVFERRY_TRY(wire::check_token_ids(first, vocab_));
  first_token_ = first;
  first_token_came_ = true;
  return {};
}

inline Status IncomingCache::on_block(std::size_t link, std::uint16_t source, wire::Frame& frame) {
  KVFERRY_ASSIGN(const wire::Block block, wire::parse_block(frame.payload));
  const KvRange range{block.layer, block.plane, block.begin, block.begin + block.tokens};
  KVFERRY_TRY(check_place(range, source));
  KVFERRY_TRY(check_profile(block.profile));
  Account& account = accounts_[source];
  const std::uint64_t bytes = frame.payload.size();
  if (!account.credit.receive(bytes)) {
    return Error(ErrorCode::kProtocol,
                 "BLOCK of " + to_string(range) +
                     " is beyond the credit: " + std::to_string(account.credit.received() + bytes) +
                     " bytes of blocks, granted were " + std::to_string(account.credit.granted()));
  }
  switch (rows_->claim(range, frame.header.payload_hash)) {
    case RowLedger::Claim::kConflict:
      return Error(ErrorCode::kProtocol,
                   "BLOCK of " + to_string(range) + " has rows that came before in another block");
    case RowLedger::Claim::kDuplicate:
      ++duplicates_;
      account.credit.free(bytes);
      return {};
    case RowLedger::Claim::kAdded:
      break;
  }
  account.digest.add(source, block, frame.header.payload_hash);
  account.payload_bytes += bytes;
  IncomingBlock incoming{link, range, std::move(frame.payload)};
  if (order_) {
    return order_->add(
        std::move(incoming), [&](const KvRange& input) { return check_place(input, source); },
        blocks_);
  }
  blocks_.push_back(std::move(incoming));
  return {};
}

inline Status IncomingCache::check_waiting() const {
  // What can be decoded, or is being decoded, may let others go.
  if (!order_ || !blocks_.empty() || blocks_out_ != 0) return {};
  const std::uint64_t bytes = order_->waiting_bytes();
  if (bytes <= window_ / 2) return {};
  return Error(ErrorCode::kResourceExhausted,
               "blocks of " + std::to_string(bytes) + " bytes, more than half of the credit of " +
                   std::to_string(window_) +
                   ", wait for blocks that they are predicted from: send those first");
}

// kProtocol unless `source` declared the rows and they were not excluded by the terms.
inline Status IncomingCache::check_place(const KvRange& range, std::uint16_t source) const {
  if (range.begin < begin_) {
    return Error(ErrorCode::kProtocol, "BLOCK of " + to_string(range) + ": tokens below " +
                                           std::to_string(begin_) + " were not to be sent");
  }
  std::uint32_t covered = 0;  // parts do not overlap, so that their shares add up
  for (const wire::CoveragePart& part : coverage_) {
    if (part.source != source || range.layer < part.first_layer || range.layer >= part.end_layer)
      continue;
    const std::uint32_t from = std::max(range.begin, part.begin);
    const std::uint32_t to = std::min(range.end, part.end);
    if (from < to) covered += to - from;
  }
  if (covered == range.tokens()) return {};
  return Error(ErrorCode::kProtocol, "BLOCK of " + to_string(range) + " from source " +
                                         std::to_string(source) +
                                         ", which did not declare these rows");
}

inline Status IncomingCache::on_end(std::uint16_t source, Bytes payload) {
  KVFERRY_ASSIGN(const wire::End end, wire::parse_end(payload));
  KVFERRY_TRY(check_rows(source));
  Account& account = accounts_[source];
  const std::uint64_t blocks = account.digest.blocks();
  if (end.blocks != blocks || end.payload_bytes != account.payload_bytes) {
    return Error(ErrorCode::kIncomplete, "END counts " + std::to_string(end.blocks) +
                                             " blocks of " + std::to_string(end.payload_bytes) +
                                             " bytes, " + std::to_string(blocks) + " of " +
                                             std::to_string(account.payload_bytes) + " came");
  }
  if (end.digest != account.digest.value()) {
    return Error(ErrorCode::kChecksum, "the blocks that came do not match the digest of END");
  }
  account.ended = true;
  if (all_ended() && needs_first_token_ && !first_token_came_) {
    return Error(ErrorCode::kIncomplete, "END without the FIRST_TOKEN that a decode order needs");
  }
  return {};
}

// kIncomplete names the first row of `source` that did not come.
inline Status IncomingCache::check_rows(std::uint16_t source) const {
  for (const wire::CoveragePart& part : coverage_) {
    if (part.source != source) continue;
    const auto missing = rows_->first_missing(part.first_layer, part.end_layer,
                                              std::max(part.begin, begin_), part.end);
    if (missing) {
      return Error(ErrorCode::kIncomplete, "END from source " + std::to_string(source) + ", but " +
                                               to_string(*missing) + " did not come");
    }
  }
  return {};
}

inline std::optional<IncomingBlock> IncomingCache::take_block() {
  if (blocks_.empty()) return std::nullopt;
  IncomingBlock block = std::move(blocks_.front());
  blocks_.pop_front();
  ++blocks_out_;
  return block;
}

inline void IncomingCache::block_written(const IncomingBlock& block, std::uint16_t source) {
  --blocks_out_;
  accounts_[source].credit.free(block.payload.size());
  if (order_) order_->decoded(block.range, blocks_);
}

inline void IncomingCache::clear() {
  first_token_.reset();
  blocks_.clear();
  if (order_) order_->clear();
}

inline std::optional<wire::Credit> IncomingCache::take_credit(std::uint16_t source) {
  const auto found = accounts_.find(source);
  if (found == accounts_.end() || found->second.ended || !found->second.credit.is_due())
    return std::nullopt;
  return wire::Credit{found->second.credit.grant()};
}

inline bool IncomingCache::has_ended(std::uint16_t source) const {
  const auto found = accounts_.find(source);
  return found != accounts_.end() && found->second.ended;
}

inline bool IncomingCache::all_ended() const {
  return !accounts_.empty() && std::all_of(accounts_.begin(), accounts_.end(),
                                           [](const auto& entry) { return entry.second.ended; });
}

inline std::uint64_t IncomingCache::payload_bytes() const {
  std::uint64_t bytes = 0;
  for (const auto& entry : accounts_) bytes += entry.second.payload_bytes;
  return bytes;
}

inline wire::HandoffDigest IncomingCache::total() const {
  wire::HandoffDigest digest;
  for (const auto& entry : accounts_) digest.add(entry.second.digest);
  return digest;
}

}  // namespace kvferry
