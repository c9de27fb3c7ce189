#include "race/shadow.hpp"

#include <new>
#include <utility>

#include <sys/mman.h>

namespace simt {

Shadow::Shadow(const void* base, std::size_t bytes)
    : base_(static_cast<const char*>(base)),
      bytes_(bytes),
      mapped_bytes_((bytes / 4 + 1) * sizeof(Cell)) {
  void* mapped = mmap(nullptr, mapped_bytes_, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (mapped == MAP_FAILED) throw std::bad_alloc();
  cells_ = static_cast<Cell*>(mapped);
}

Shadow::~Shadow() {
  if (cells_ != nullptr) munmap(cells_, mapped_bytes_);
}

Shadow::Shadow(Shadow&& other) noexcept
    : base_(other.base_),
      bytes_(other.bytes_),
      cells_(std::exchange(other.cells_, nullptr)),
      mapped_bytes_(other.mapped_bytes_) {}

}  // namespace simt
