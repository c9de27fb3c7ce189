// Checks of the addresses that device functions are given.
#include "simt/memory_access.hpp"

#include <cstdint>

#include "simt/atomics.hpp"
#include "simt/block.hpp"
#include "simt/observer.hpp"

namespace simt {
namespace {

void check_alignment(BlockRunner& runner, const void* pointer, std::size_t alignment,
                     const char* operation, Site site) {
  if (reinterpret_cast<std::uintptr_t>(pointer) % alignment != 0) {
    runner.fail(operation, site,
                "the address is not a multiple of " + std::to_string(alignment) + " bytes");
  }
}

[[noreturn]] void fail_outside(BlockRunner& runner, std::size_t size, const char* memory,
                               const char* operation, Site site) {
  runner.fail(operation, site,
              "touches " + std::to_string(size) + " bytes outside " + memory + " memory");
}

bool is_global(const BlockRunner& runner, const void* pointer, std::size_t size) {
  return find_allocation(*runner.job().memory, pointer, size) != nullptr;
}

}  // namespace

void check_global(const void* pointer, std::size_t size, std::size_t alignment,
                  const char* operation, Site site) {
  BlockRunner* runner = BlockRunner::current();
  if (runner == nullptr) return;
  check_alignment(*runner, pointer, alignment, operation, site);
  if (!is_global(*runner, pointer, size)) fail_outside(*runner, size, "global", operation, site);
}

void check_shared(const void* pointer, std::size_t size, std::size_t alignment,
                  const char* operation, Site site) {
  BlockRunner* runner = BlockRunner::current();
  if (runner == nullptr) return;
  check_alignment(*runner, pointer, alignment, operation, site);
  if (!runner->shared().holds(pointer, size)) {
    fail_outside(*runner, size, "shared", operation, site);
  }
}

void* shared_storage(std::size_t size, Site site) {
  BlockRunner& runner = *BlockRunner::current();
  if (size > runner.shared().bytes()) {
    runner.fail("shared_storage", site,
                "asks for " + std::to_string(size) + " bytes of shared memory, the launch gives " +
                    std::to_string(runner.shared().bytes()));
  }
  return runner.shared().base();
}

void begin_atomic(const void* pointer, unsigned size, const char* operation, Site site) {
  BlockRunner* runner = BlockRunner::current();
  if (runner == nullptr) return;
  check_alignment(*runner, pointer, size, operation, site);
  if (!runner->shared().holds(pointer, size)) {
    if (!is_global(*runner, pointer, size)) {
      fail_outside(*runner, size, "shared and global", operation, site);
    }
    runner->await_turn();
  }
  if (observer() != nullptr) observer()->access(Access::kAtomic, pointer, size, site);
}

}  // namespace simt
