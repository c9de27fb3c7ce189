#include "simt/device_memory.hpp"

#include <algorithm>
#include <cstring>

#include <sys/mman.h>
#include <unistd.h>

#include "simt/launch.hpp"
#include "simt/observer.hpp"
#include "simt/sanitizer.hpp"

namespace simt {
namespace {

constexpr char kCanary = '\x5a';

// The red zone between an allocation and the page that faults.
char* red_zone(const Allocation& allocation) {
  return allocation.base + allocation.bytes;
}
std::size_t red_zone_bytes(const Allocation& allocation) {
  const auto page = static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
  const char* end = allocation.mapping + allocation.mapping_bytes - page;
  return static_cast<std::size_t>(end - red_zone(allocation));
}

bool is_intact(const Allocation& allocation) {
  const char* zone = red_zone(allocation);
  return std::all_of(zone, zone + red_zone_bytes(allocation),
                     [](char byte) { return byte == kCanary; });
}

std::string describe(const Allocation& allocation) {
  return "an allocation of " + std::to_string(allocation.bytes) + " bytes";
}

}  // namespace

const Allocation* find_mapping(const MemoryMap& map, const void* address) {
  const char* byte = static_cast<const char*>(address);
  auto after = std::upper_bound(map.begin(), map.end(), byte,
                                [](const char* at, const Allocation& a) { return at < a.mapping; });
  if (after == map.begin()) return nullptr;
  --after;
  return byte < after->mapping + after->mapping_bytes ? &*after : nullptr;
}

const Allocation* find_allocation(const MemoryMap& map, const void* pointer, std::size_t size) {
  const Allocation* found = find_mapping(map, pointer);
  const char* begin = static_cast<const char*>(pointer);
  if (found == nullptr || begin < found->base || begin > found->base + found->bytes) return nullptr;
  const auto left = static_cast<std::size_t>(found->base + found->bytes - begin);
  return size <= left ? found : nullptr;
}

DeviceMemory& DeviceMemory::instance() {
  static DeviceMemory memory;
  return memory;
}

void* DeviceMemory::allocate(std::size_t bytes, MemoryKind kind) {
  const std::lock_guard<std::mutex> lock(mutex_);
  const std::size_t limit = settings().memory_bytes;
  if (used_bytes_ > limit || bytes > limit - used_bytes_) return nullptr;
  const auto page = static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
  const std::size_t room = (bytes + kAlignment - 1) / kAlignment * kAlignment;
  Allocation allocation;
  allocation.bytes = bytes;
  allocation.kind = kind;
  allocation.mapping_bytes = (room + page - 1) / page * page + 2 * page;
  void* mapped = mmap(nullptr, allocation.mapping_bytes, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (mapped == MAP_FAILED) return nullptr;
  allocation.mapping = static_cast<char*>(mapped);
  char* end = allocation.mapping + allocation.mapping_bytes - page;
  mprotect(allocation.mapping, page, PROT_NONE);
  mprotect(end, page, PROT_NONE);
  allocation.base = end - room;
  std::memset(allocation.base, 0xff, bytes);
  std::memset(red_zone(allocation), kCanary, red_zone_bytes(allocation));
  poison(allocation.mapping + page,
         static_cast<std::size_t>(allocation.base - allocation.mapping) - page);
  poison(red_zone(allocation), red_zone_bytes(allocation));
  used_bytes_ += bytes;
  allocations_.emplace(allocation.mapping, allocation);
  map_ = nullptr;
  return allocation.base;
}

std::string DeviceMemory::release(void* pointer, MemoryKind kind) {
  const std::lock_guard<std::mutex> lock(mutex_);
  const auto found =
      std::find_if(allocations_.begin(), allocations_.end(),
                   [pointer](const auto& entry) { return entry.second.base == pointer; });
  if (found == allocations_.end()) return "frees a pointer that is not allocated";
  const Allocation allocation = found->second;
  if (allocation.kind != kind) return "frees memory of the other kind, device or pinned";
  const bool intact = is_intact(allocation);
  allocations_.erase(found);
  map_ = nullptr;
  used_bytes_ -= allocation.bytes;
  if (observer() != nullptr) observer()->memory_freed(allocation.base, allocation.bytes);
  unpoison(allocation.mapping, allocation.mapping_bytes);
  munmap(allocation.mapping, allocation.mapping_bytes);
  return intact ? "" : "frees " + describe(allocation) + " past whose end something was written";
}

std::shared_ptr<const MemoryMap> DeviceMemory::map() {
  const std::lock_guard<std::mutex> lock(mutex_);
  if (map_ == nullptr) {
    auto map = std::make_shared<MemoryMap>();
    for (const auto& entry : allocations_) map->push_back(entry.second);
    map_ = std::move(map);
  }
  return map_;
}

std::size_t DeviceMemory::used_bytes() {
  const std::lock_guard<std::mutex> lock(mutex_);
  return used_bytes_;
}

std::string DeviceMemory::broken_red_zones() {
  const std::lock_guard<std::mutex> lock(mutex_);
  std::string found;
  for (const auto& entry : allocations_) {
    const Allocation& allocation = entry.second;
    if (is_intact(allocation)) continue;
    found += (found.empty() ? "" : "; ") + std::string("something was written past the end of ") +
             describe(allocation);
    std::memset(red_zone(allocation), kCanary, red_zone_bytes(allocation));
  }
  return found;
}

}  // namespace simt
