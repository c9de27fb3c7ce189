// BlockCredit: the receiver's account of one source's blocks, in payload bytes.
#pragma once

#include <algorithm>
#include <cstdint>

namespace kvferry {

// At most a window of bytes is on the way or waiting to be written at any time: what was granted
// in all, less what came, is what the source may still send.
class BlockCredit {
 public:
  void open(std::uint64_t window) { window_ = granted_ = window; }

  // False when that is more than was granted; it is not counted then.
  bool receive(std::uint64_t bytes) {
    if (bytes > granted_ - received_) return false;
    received_ += bytes;
    return true;
  }
  // Bytes that were received need no room any more.
  void free(std::uint64_t bytes) { freed_ += bytes; }

  // Whether it is time to tell the source: in steps of a quarter of the window, so that credit
  // costs few frames, and at once when nothing is left that would free more.
  bool is_due() const {
    const std::uint64_t more = window_ + freed_ - granted_;
    return more > 0 && (more >= window_ / 4 || freed_ == received_);
  }
  // The new total, which counts as told.
  std::uint64_t grant() {
    granted_ = window_ + freed_;
    return granted_;
  }

  std::uint64_t granted() const { return granted_; }
  std::uint64_t received() const { return received_; }

 private:
  std::uint64_t window_ = 0;
  std::uint64_t granted_ = 0;   // total
  std::uint64_t received_ = 0;  // total
  std::uint64_t freed_ = 0;     // of received_
};

}  // namespace kvferry
