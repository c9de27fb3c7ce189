// Stopwatch: how long something takes.
#pragma once

#include <chrono>

namespace kvferry {

inline double seconds_between(std::chrono::steady_clock::time_point begin,
                              std::chrono::steady_clock::time_point end) {
  return std::chrono::duration<double>(end - begin).count();
}

// Runs from its construction on; a new one is assigned to start again.
class Stopwatch {
 public:
  double seconds() const { return seconds_between(start_, Clock::now()); }

 private:
  using Clock = std::chrono::steady_clock;
  Clock::time_point start_ = Clock::now();
};

}  // namespace kvferry
