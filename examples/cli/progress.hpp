// How far long work has come, on standard error.
#pragma once

#include <chrono>
#include <cstddef>
#include <iostream>
#include <string>

#include <unistd.h>

namespace kvferry::cli {

// One line that is rewritten on a terminal; elsewhere a line every ten seconds at most.
class Progress {
 public:
  explicit Progress(std::string what) : what_(std::move(what)) {}

  void show(std::size_t done, std::size_t total) {
    const Clock::time_point now = Clock::now();
    if (now - shown_ < (terminal_ ? std::chrono::milliseconds(200) : std::chrono::seconds(10)))
      return;
    shown_ = now;
    const double passed = std::chrono::duration<double>(now - start_).count();
    const double left = passed * static_cast<double>(total - done) / static_cast<double>(done);
    std::cerr << (terminal_ ? "\r" : "") << what_ << ": " << done << " of " << total << ", "
              << static_cast<int>(left) << " s left" << (terminal_ ? "    " : "\n") << std::flush;
  }
  // Leaves an empty line for what comes next.
  void end() {
    if (terminal_) std::cerr << '\r' << std::string(what_.size() + 48, ' ') << '\r' << std::flush;
  }

 private:
  using Clock = std::chrono::steady_clock;

  const std::string what_;
  const bool terminal_ = ::isatty(STDERR_FILENO) != 0;
  const Clock::time_point start_ = Clock::now();
  Clock::time_point shown_ = start_;
};

}  // namespace kvferry::cli
