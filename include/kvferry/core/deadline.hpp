// Deadline: the moment after which a wait gives up. Every wait in the library takes one; long ones
// can also be cancelled.
#pragma once

#include <algorithm>
#include <chrono>
#include <functional>

namespace kvferry {

class Deadline {
 public:
  using Clock = std::chrono::steady_clock;

  explicit Deadline(Clock::time_point at) : at_(at) {}
  static Deadline after(Clock::duration d) { return Deadline(Clock::now() + d); }

  Clock::time_point time() const { return at_; }
  bool expired() const { return Clock::now() >= at_; }
  // This one, or `d` from now when that is sooner.
  Deadline at_most(Clock::duration d) const { return Deadline(std::min(at_, Clock::now() + d)); }
  // Time left, never negative, rounded up to whole milliseconds so that a poll does not spin.
  std::chrono::milliseconds remaining() const {
    const auto left = std::max(at_ - Clock::now(), Clock::duration::zero());
    auto ms = std::chrono::duration_cast<std::chrono::milliseconds>(left);
    if (ms < left) ++ms;
    return ms;
  }

 private:
  Clock::time_point at_;
};

// Asked every kCancelPoll during a wait: true ends it with kCancelled. An empty one never does.
using Cancelled = std::function<bool()>;
constexpr std::chrono::milliseconds kCancelPoll{50};

}  // namespace kvferry
