// Turns a signal that a kernel raises (a page that faults, a division by zero) into an error of its
// launch.
#pragma once

#include <csignal>

namespace simt {

// The handlers, installed while a launch runs; one at a time. Puts back what was there.
class FaultScope {
 public:
  FaultScope();
  ~FaultScope();
  FaultScope(const FaultScope&) = delete;
  FaultScope& operator=(const FaultScope&) = delete;
};

// The stack that handlers run on, of the host thread that makes it; one that overflows has none.
class SignalStack {
 public:
  SignalStack();
  ~SignalStack();
  SignalStack(const SignalStack&) = delete;
  SignalStack& operator=(const SignalStack&) = delete;

 private:
  stack_t old_;
  void* memory_;
};

}  // namespace simt
