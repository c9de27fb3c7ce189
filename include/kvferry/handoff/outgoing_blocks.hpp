// OutgoingBlocks: the coded blocks of one source on their way out, and the account of them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <optional>
#include <string>
#include <utility>

#include "kvferry/cache/geometry.hpp"
#include "kvferry/core/result.hpp"
#include "kvferry/handoff/outgoing_frame.hpp"
#include "kvferry/wire/digest.hpp"
#include "kvferry/wire/messages.hpp"

namespace kvferry {

// Blocks wait here until the receiver's credit lets them go, in the order in which they were made.
class OutgoingBlocks {
 public:
  struct Coded {
    KvRange range;
    OutgoingFrame frame;
  };

  // `pending_bytes`: of blocks that wait, and that are being made.
  OutgoingBlocks(std::uint16_t source, std::size_t pending_bytes)
      : source_(source), pending_bytes_(pending_bytes) {}

  // Whether one more block, of at most `most` bytes, may be made. One alone always may.
  bool has_room(std::size_t most) const {
    if (making_ == 0 && waiting_.empty()) return true;
    return waiting_bytes_ + (making_ + 1) * most <= pending_bytes_;
  }
  // A block is being made; one of the other two follows.
  void begin_making() { ++making_; }
  void add(const KvRange& range, OutgoingFrame frame) {
    --making_;
    waiting_bytes_ += frame.header.payload_bytes;
    waiting_.push_back(Coded{range, std::move(frame)});
  }
  void give_up_making() { --making_; }

  // The receiver lets `total` payload bytes go in all. kProtocol when that is less than before.
  Status grant(std::uint64_t total) {
    if (total < credit_) {
      return Error(ErrorCode::kProtocol, "CREDIT of " + std::to_string(total) +
                                             " bytes takes back what was granted, " +
                                             std::to_string(credit_));
    }
    credit_ = total;
    return {};
  }
  std::uint64_t credit() const { return credit_; }
  bool wait_for_credit() const {
    return !waiting_.empty() && sent_bytes_ + waiting_.front().frame.header.payload_bytes > credit_;
  }

  // The next block that may go; it counts as sent.
  std::optional<Coded> take() {
    if (waiting_.empty() || wait_for_credit()) return std::nullopt;
    Coded block = std::move(waiting_.front());
    waiting_.pop_front();
    waiting_bytes_ -= block.frame.header.payload_bytes;
    sent_bytes_ += block.frame.header.payload_bytes;
    digest_.add(source_, block_at(block.range), block.frame.header.payload_hash);
    return block;
  }

  // Forgets the blocks that wait.
  void clear() {
    waiting_.clear();
    waiting_bytes_ = 0;
  }

  std::uint64_t sent_blocks() const { return digest_.blocks(); }
  std::uint64_t sent_bytes() const { return sent_bytes_; }  // payloads
  // Of the blocks that were sent.
  std::uint64_t digest() const { return digest_.value(); }

 private:
  std::uint16_t source_;
  std::size_t pending_bytes_;
  std::size_t making_ = 0;
  std::deque<Coded> waiting_;
  std::size_t waiting_bytes_ = 0;
  std::uint64_t credit_ = 0;      // total
  std::uint64_t sent_bytes_ = 0;  // total
  wire::HandoffDigest digest_;
};

}  // namespace kvferry
