// ComputeQueue: one at a time computes, in the order in which they came.
#pragma once

#include <condition_variable>
#include <deque>
#include <mutex>
#include <utility>

#include "kvferry/core/deadline.hpp"
#include "kvferry/core/result.hpp"

namespace kvferry {

class ComputeQueue {
 public:
  // Ends when it is destroyed; the queue outlives it.
  class Turn {
   public:
    explicit Turn(ComputeQueue* queue) : queue_(queue) {}
    Turn(Turn&& other) noexcept : queue_(std::exchange(other.queue_, nullptr)) {}
    Turn& operator=(Turn&&) = delete;
    ~Turn() { end(); }
    void end() {
      if (queue_ != nullptr) std::exchange(queue_, nullptr)->leave();
    }

   private:
    ComputeQueue* queue_;
  };

  // Waits for a turn; kCancelled once `cancelled` says so.
  Result<Turn> enter(const Cancelled& cancelled) {
    std::unique_lock<std::mutex> lock(mutex_);
    const unsigned own = next_++;
    waiting_.push_back(own);
    while (busy_ || waiting_.front() != own) {
      changed_.wait_for(lock, kCancelPoll);
      if (!cancelled()) continue;
      for (auto it = waiting_.begin(); it != waiting_.end(); ++it) {
        if (*it != own) continue;
        waiting_.erase(it);
        break;
      }
      changed_.notify_all();
      return Error(ErrorCode::kCancelled, "cancelled");
    }
    waiting_.pop_front();
    busy_ = true;
    return Turn(this);
  }

 private:
  void leave() {
    const std::lock_guard<std::mutex> lock(mutex_);
    busy_ = false;
    changed_.notify_all();
  }

  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<unsigned> waiting_;
  unsigned next_ = 0;
  bool busy_ = false;
};

}  // namespace kvferry
