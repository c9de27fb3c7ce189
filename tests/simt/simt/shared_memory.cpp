#include "simt/shared_memory.hpp"

#include <cstring>
#include <new>

#include <sys/mman.h>
#include <unistd.h>

#include "simt/sanitizer.hpp"

namespace simt {
namespace {

constexpr char kCanary = '\x5a';

}  // namespace

SharedMemory::SharedMemory() {
  const auto page = static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
  mapping_bytes_ = kMaxBytes + 2 * page;
  void* mapped = mmap(nullptr, mapping_bytes_, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (mapped == MAP_FAILED) throw std::bad_alloc();
  mapping_ = static_cast<char*>(mapped);
  end_ = mapping_ + mapping_bytes_ - page;
  mprotect(mapping_ + page, kMaxBytes, PROT_READ | PROT_WRITE);
  base_ = end_;
}

SharedMemory::~SharedMemory() {
  unpoison(mapping_, mapping_bytes_);
  munmap(mapping_, mapping_bytes_);
}

void SharedMemory::begin_block(std::size_t bytes) {
  const std::size_t room = (bytes + kAlignment - 1) / kAlignment * kAlignment;
  bytes_ = bytes;
  base_ = end_ - room;
  unpoison(end_ - kMaxBytes, kMaxBytes);
  std::memset(base_, 0xff, bytes_);
  std::memset(base_ + bytes_, kCanary, room - bytes_);
  poison(end_ - kMaxBytes, kMaxBytes - room);
  poison(base_ + bytes_, room - bytes_);
}

bool SharedMemory::is_intact() const {
  for (const char* byte = base_ + bytes_; byte < end_; ++byte) {
    if (*byte != kCanary) return false;
  }
  return true;
}

bool SharedMemory::holds(const void* pointer, std::size_t size) const {
  const char* begin = static_cast<const char*>(pointer);
  return begin >= base_ && begin <= base_ + bytes_ &&
         size <= static_cast<std::size_t>(base_ + bytes_ - begin);
}

bool SharedMemory::is_near(const void* address) const {
  const char* byte = static_cast<const char*>(address);
  return byte >= mapping_ && byte < mapping_ + mapping_bytes_;
}

}  // namespace simt
