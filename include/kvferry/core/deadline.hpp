// Deadline: the moment after which a wait gives up. Every wait in the library takes one.
#pragma once

#include <algorithm>
#include <chrono>

namespace kvferry {

class Deadline {
 public:
  using Clock = std::chrono::steady_clock;

  explicit Deadline(Clock::time_point at) : at_(at) {}
  static Deadline after(Clock::duration d) { return Deadline(Clock::now() + d); }

  Clock::time_point time() const { return at_; }
  bool expired() const { return Clock::now() >= at_; }
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

}  // namespace kvferry
