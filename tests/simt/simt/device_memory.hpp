// The device's memory: allocations between red zones, and what the running lanes know of them.
#pragma once

#include <cstddef>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

namespace simt {

enum class MemoryKind { kDevice, kPinned };

struct Allocation {
  char* base;
  std::size_t bytes;
  MemoryKind kind;
  char* mapping;  // whole pages, the last of which faults; the first too
  std::size_t mapping_bytes;
};

// The allocations of one moment, by address; read by lanes without a lock.
using MemoryMap = std::vector<Allocation>;

// The allocation that holds all of [pointer, pointer + size); null when none does.
const Allocation* find_allocation(const MemoryMap& map, const void* pointer, std::size_t size);
// The allocation in whose mapping the address lies, red zones included.
const Allocation* find_mapping(const MemoryMap& map, const void* address);

class DeviceMemory {
 public:
  static constexpr std::size_t kAlignment = 256;

  static DeviceMemory& instance();

  // Null when there is no room.
  void* allocate(std::size_t bytes, MemoryKind kind);
  // What was wrong; empty when nothing was.
  std::string release(void* pointer, MemoryKind kind);
  std::shared_ptr<const MemoryMap> map();
  std::size_t used_bytes();
  // A text for each allocation whose red zone was written to since the last call.
  std::string broken_red_zones();

 private:
  std::mutex mutex_;
  std::map<char*, Allocation> allocations_;
  std::shared_ptr<const MemoryMap> map_ = std::make_shared<MemoryMap>();
  std::size_t used_bytes_ = 0;
};

}  // namespace simt
