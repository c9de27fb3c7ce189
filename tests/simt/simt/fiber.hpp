// Fibers: stacks, and the switch from one to another.
#pragma once

#include <cstddef>

namespace simt {

// Where a suspended fiber goes on.
struct Context {
  void* stack_pointer = nullptr;
};

// Suspends the running fiber into `from` and resumes `to`. About 2 ns.
inline void switch_fiber(Context* from, const Context& to);

// Equal stacks in one mapping, pages that fault below each.
class StackArena {
 public:
  StackArena(std::size_t count, std::size_t bytes);
  ~StackArena();
  StackArena(const StackArena&) = delete;
  StackArena& operator=(const StackArena&) = delete;

  std::size_t count() const { return count_; }
  std::size_t stack_bytes() const { return stack_bytes_; }
  char* bottom(std::size_t index) const;  // lowest usable address
  // A fiber that calls `entry` on an empty stack; `entry` never returns.
  Context fresh(std::size_t index, void (*entry)()) const;
  // Whether the address lies in a page that no stack may use.
  bool is_guard(const void* address) const;

 private:
  std::size_t count_;
  std::size_t stack_bytes_;
  char* base_;
};

}  // namespace simt

extern "C" void kvferry_simt_switch(void** from, void* to);

inline void simt::switch_fiber(Context* from, const Context& to) {
  kvferry_simt_switch(&from->stack_pointer, to.stack_pointer);
}
