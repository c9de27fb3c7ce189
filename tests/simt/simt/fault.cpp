#include "simt/fault.hpp"

#include <array>
#include <cstdint>
#include <new>
#include <string>

#include <sys/mman.h>
#include <ucontext.h>

#include "simt/block.hpp"
#include "simt/sanitizer.hpp"

namespace simt {
namespace {

constexpr std::array<int, 3> kSignals = {SIGSEGV, SIGBUS, SIGFPE};
constexpr std::size_t kSignalStackBytes = 64 * 1024;

std::array<struct sigaction, kSignals.size()> replaced;

std::string distance(const char* address, const char* base, std::size_t bytes) {
  if (address < base) return std::to_string(base - address) + " bytes before the beginning";
  return std::to_string(address - base - static_cast<std::ptrdiff_t>(bytes)) +
         " bytes past the end";
}

}  // namespace

// Friend of BlockRunner: the way from the signal to its fail().
struct FaultHandler {
  static std::string describe(const BlockRunner& runner) {
    if (runner.fault_signal_ == SIGFPE) return "division by zero";
    const char* address = static_cast<const char*>(runner.fault_address_);
    if (runner.stacks_->is_guard(address)) return "stack overflow";
    if (runner.shared_.is_near(address)) {
      return "touches " + distance(address, runner.shared_.base(), runner.shared_.bytes()) +
             " of shared memory";
    }
    if (const Allocation* near = find_mapping(*runner.job_->memory, address)) {
      return "touches " + distance(address, near->base, near->bytes) + " of an allocation of " +
             std::to_string(near->bytes) + " bytes";
    }
    return "touches memory that is not the kernel's, or 128 bits at a misaligned address";
  }

  // Where the faulting lane goes on, on a stack of its own.
  [[noreturn]] static void report() {
    BlockRunner& runner = *BlockRunner::current();
    runner.fail_at_once("memory access", Site{}, describe(runner));
  }

  static void on_signal(int signal, siginfo_t* info, void* context) {
    BlockRunner* runner = BlockRunner::current();
    if (runner == nullptr) {
      // Not a kernel's: back to who was there before, who gets the same fault again.
      for (std::size_t i = 0; i < kSignals.size(); ++i) {
        if (kSignals[i] == signal) sigaction(signal, &replaced[i], nullptr);
      }
      return;
    }
    runner->fault_signal_ = signal;
    runner->fault_address_ = info->si_addr;
    const StackArena& stacks = *runner->stacks_;
    char* top = stacks.bottom(stacks.count() - 1) + stacks.stack_bytes();
    auto& machine = static_cast<ucontext_t*>(context)->uc_mcontext;
#if defined(__x86_64__)
    machine.gregs[REG_RIP] = reinterpret_cast<greg_t>(&FaultHandler::report);
    machine.gregs[REG_RSP] = reinterpret_cast<greg_t>(top - 8);
#else
    machine.pc = reinterpret_cast<std::uint64_t>(&FaultHandler::report);
    machine.sp = reinterpret_cast<std::uint64_t>(top);
#endif
  }
};

FaultScope::FaultScope() {
  struct sigaction action = {};
  action.sa_sigaction = &FaultHandler::on_signal;
  action.sa_flags = SA_SIGINFO | SA_ONSTACK;
  sigemptyset(&action.sa_mask);
  for (std::size_t i = 0; i < kSignals.size(); ++i) sigaction(kSignals[i], &action, &replaced[i]);
}

FaultScope::~FaultScope() {
  for (std::size_t i = 0; i < kSignals.size(); ++i) sigaction(kSignals[i], &replaced[i], nullptr);
}

SignalStack::SignalStack() {
  memory_ =
      mmap(nullptr, kSignalStackBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory_ == MAP_FAILED) throw std::bad_alloc();
  stack_t stack = {};
  stack.ss_sp = memory_;
  stack.ss_size = kSignalStackBytes;
  sigaltstack(&stack, &old_);
}

SignalStack::~SignalStack() {
  sigaltstack(&old_, nullptr);
  munmap(memory_, kSignalStackBytes);
}

}  // namespace simt
