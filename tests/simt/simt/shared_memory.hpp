// SharedMemory: a block's shared memory, ending at a page that faults.
#pragma once

#include <cstddef>

namespace simt {

class SharedMemory {
 public:
  static constexpr std::size_t kMaxBytes = 256 * 1024;
  static constexpr std::size_t kAlignment = 128;  // all banks, so that a bank is an offset

  SharedMemory();
  ~SharedMemory();
  SharedMemory(const SharedMemory&) = delete;
  SharedMemory& operator=(const SharedMemory&) = delete;

  // Empties it: `bytes` of 0xFF, and what lies between them and the page that faults.
  void begin_block(std::size_t bytes);
  // Whether nothing wrote past its end.
  bool is_intact() const;

  char* base() const { return base_; }
  char* end() const { return end_; }  // of what it can be
  std::size_t bytes() const { return bytes_; }
  bool holds(const void* pointer, std::size_t size) const;
  // Whether the address lies in the mapping, valid or not.
  bool is_near(const void* address) const;

 private:
  char* mapping_;
  std::size_t mapping_bytes_;
  char* end_;  // of the usable pages
  char* base_ = nullptr;
  std::size_t bytes_ = 0;
};

}  // namespace simt
