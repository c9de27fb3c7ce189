// Loopback: both ends of a bounded channel inside one process, for tests and for nodes that share
// one.
#pragma once

#include <algorithm>
#include <cassert>
#include <condition_variable>
#include <cstring>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "kvferry/transport/channel.hpp"

namespace kvferry {

namespace detail {

// One direction of a loopback: a ring of bytes between one writer and one reader.
class LoopbackPipe {
 public:
  explicit LoopbackPipe(std::size_t capacity) : ring_(capacity) {}

  Status write(Span<const Bytes> buffers, Deadline deadline) {
    std::unique_lock<std::mutex> lock(mutex_);
    for (Bytes bytes : buffers) {
      while (!bytes.empty()) {
        if (!wait(lock, deadline, [this] { return ended_ || broken_ || used_ < ring_.size(); })) {
          broken_ = true;
          return Error(ErrorCode::kTimeout, "loopback: the peer did not make room for " +
                                                std::to_string(bytes.size()) +
                                                " bytes before the deadline");
        }
        if (ended_ || broken_) return closed();
        const std::size_t count = copy_in(bytes);
        bytes = bytes.subspan(count);
        changed_.notify_all();
      }
    }
    return {};
  }

  Result<std::size_t> read(MutableBytes out, Deadline deadline) {
    std::unique_lock<std::mutex> lock(mutex_);
    if (reader_closed_) return closed();
    if (out.empty()) return std::size_t{0};
    if (!wait(lock, deadline, [this] { return ended_ || used_ > 0; })) {
      return Error(ErrorCode::kTimeout, "loopback: nothing came before the deadline");
    }
    if (used_ == 0 || reader_closed_) return closed();
    const std::size_t count = copy_out(out);
    changed_.notify_all();
    return count;
  }

  // No more is written; what is in the ring can still be read, unless the reader itself closed.
  void end(bool by_reader) {
    const std::lock_guard<std::mutex> lock(mutex_);
    ended_ = true;
    if (by_reader) {
      reader_closed_ = true;
      used_ = 0;
    }
    changed_.notify_all();
  }

 private:
  static Error closed() { return Error(ErrorCode::kClosed, "loopback: the channel is closed"); }

  template <typename Condition>
  bool wait(std::unique_lock<std::mutex>& lock, Deadline deadline, Condition condition) {
    return changed_.wait_until(lock, deadline.time(), condition);
  }

  // Copies what fits, in up to two pieces, and returns how much that was.
  std::size_t copy_in(Bytes bytes) {
    const std::size_t count = std::min(bytes.size(), ring_.size() - used_);
    const std::size_t begin = (head_ + used_) % ring_.size();
    const std::size_t first = std::min(count, ring_.size() - begin);
    std::memcpy(ring_.data() + begin, bytes.data(), first);
    if (count > first) std::memcpy(ring_.data(), bytes.data() + first, count - first);
    used_ += count;
    return count;
  }

  std::size_t copy_out(MutableBytes out) {
    const std::size_t count = std::min(out.size(), used_);
    const std::size_t first = std::min(count, ring_.size() - head_);
    std::memcpy(out.data(), ring_.data() + head_, first);
    if (count > first) std::memcpy(out.data() + first, ring_.data(), count - first);
    head_ = (head_ + count) % ring_.size();
    used_ -= count;
    return count;
  }

  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<std::uint8_t> ring_;
  std::size_t head_ = 0;        // first byte to read
  std::size_t used_ = 0;        // bytes to read
  bool ended_ = false;          // by either end
  bool reader_closed_ = false;  // by the end that reads
  bool broken_ = false;         // a write timed out in the middle
};

class LoopbackChannel final : public Channel {
 public:
  LoopbackChannel(std::shared_ptr<LoopbackPipe> out, std::shared_ptr<LoopbackPipe> in)
      : out_(std::move(out)), in_(std::move(in)) {}
  ~LoopbackChannel() override { close(); }
  LoopbackChannel(const LoopbackChannel&) = delete;
  LoopbackChannel& operator=(const LoopbackChannel&) = delete;

  Status send(Span<const Bytes> buffers, Deadline deadline) override {
    return out_->write(buffers, deadline);
  }
  Result<std::size_t> receive(MutableBytes buffer, Deadline deadline) override {
    return in_->read(buffer, deadline);
  }
  void close() noexcept override {
    out_->end(false);
    in_->end(true);
  }
  std::string peer() const override { return "loopback"; }

 private:
  std::shared_ptr<LoopbackPipe> out_;
  std::shared_ptr<LoopbackPipe> in_;
};

}  // namespace detail

// Each direction holds at most `capacity` bytes (at least 1) that were sent and not yet received.
inline ChannelPair make_loopback(std::size_t capacity = 256 * 1024) {
  assert(capacity > 0);
  auto there = std::make_shared<detail::LoopbackPipe>(capacity);
  auto back = std::make_shared<detail::LoopbackPipe>(capacity);
  ChannelPair pair;
  pair.first = std::make_unique<detail::LoopbackChannel>(there, back);
  pair.second = std::make_unique<detail::LoopbackChannel>(std::move(back), std::move(there));
  return pair;
}

}  // namespace kvferry
