#include "simt/fiber.hpp"

#include <cstdint>
#include <cstring>
#include <new>

#include <sys/mman.h>
#include <unistd.h>

// Saves what a function must preserve on the stack, and the stack pointer in *from. Floating-point
// modes are not switched: no kernel changes them.
#if defined(__x86_64__)
asm(R"(
.text
.p2align 4
.globl kvferry_simt_switch
.type kvferry_simt_switch, @function
kvferry_simt_switch:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size kvferry_simt_switch, .-kvferry_simt_switch
)");
#elif defined(__aarch64__)
asm(R"(
.text
.p2align 4
.globl kvferry_simt_switch
.type kvferry_simt_switch, %function
kvferry_simt_switch:
  sub sp, sp, #160
  stp x19, x20, [sp, #0]
  stp x21, x22, [sp, #16]
  stp x23, x24, [sp, #32]
  stp x25, x26, [sp, #48]
  stp x27, x28, [sp, #64]
  stp x29, x30, [sp, #80]
  stp d8, d9, [sp, #96]
  stp d10, d11, [sp, #112]
  stp d12, d13, [sp, #128]
  stp d14, d15, [sp, #144]
  mov x2, sp
  str x2, [x0]
  mov sp, x1
  ldp x19, x20, [sp, #0]
  ldp x21, x22, [sp, #16]
  ldp x23, x24, [sp, #32]
  ldp x25, x26, [sp, #48]
  ldp x27, x28, [sp, #64]
  ldp x29, x30, [sp, #80]
  ldp d8, d9, [sp, #96]
  ldp d10, d11, [sp, #112]
  ldp d12, d13, [sp, #128]
  ldp d14, d15, [sp, #144]
  add sp, sp, #160
  ret
.size kvferry_simt_switch, .-kvferry_simt_switch
)");
#else
#error "the switch of fibers is written for x86-64 and aarch64"
#endif

namespace simt {
namespace {

std::size_t page_bytes() {
  static const auto size = static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
  return size;
}

// Wider than any frame of a kernel, so that none reaches over it.
constexpr std::size_t kGuardBytes = 64 * 1024;

}  // namespace

StackArena::StackArena(std::size_t count, std::size_t bytes)
    : count_(count), stack_bytes_((bytes + page_bytes() - 1) / page_bytes() * page_bytes()) {
  const std::size_t stride = stack_bytes_ + kGuardBytes;
  void* mapped = mmap(nullptr, stride * count_, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (mapped == MAP_FAILED) throw std::bad_alloc();
  base_ = static_cast<char*>(mapped);
  for (std::size_t i = 0; i < count_; ++i) mprotect(base_ + i * stride, kGuardBytes, PROT_NONE);
}

StackArena::~StackArena() {
  munmap(base_, (stack_bytes_ + kGuardBytes) * count_);
}

char* StackArena::bottom(std::size_t index) const {
  return base_ + index * (stack_bytes_ + kGuardBytes) + kGuardBytes;
}

Context StackArena::fresh(std::size_t index, void (*entry)()) const {
  char* top = bottom(index) + stack_bytes_;
  const auto address = reinterpret_cast<std::uintptr_t>(entry);
#if defined(__x86_64__)
  // Six registers and the address to return to; at `entry` the stack is 8 off a multiple of 16, as
  // after a call.
  char* stack_pointer = top - 64;
  std::memset(stack_pointer, 0, 64);
  std::memcpy(stack_pointer + 48, &address, sizeof address);
#else
  char* stack_pointer = top - 160;
  std::memset(stack_pointer, 0, 160);
  std::memcpy(stack_pointer + 88, &address, sizeof address);  // x30
#endif
  return Context{stack_pointer};
}

bool StackArena::is_guard(const void* address) const {
  const char* byte = static_cast<const char*>(address);
  const std::size_t stride = stack_bytes_ + kGuardBytes;
  if (byte < base_ || byte >= base_ + stride * count_) return false;
  return static_cast<std::size_t>(byte - base_) % stride < kGuardBytes;
}

}  // namespace simt
