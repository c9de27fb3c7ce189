// AccessObserver: what the race build hears of a launch.
#pragma once

#include <cstddef>
#include <cstdint>

#include "simt/site.hpp"

namespace simt {

enum class Access { kRead, kWrite, kAtomic };

class AccessObserver {
 public:
  AccessObserver() = default;
  AccessObserver(const AccessObserver&) = delete;
  AccessObserver& operator=(const AccessObserver&) = delete;
  virtual ~AccessObserver() = default;

  virtual void launch_begins() = 0;
  // Blocks run one after the other, `order` counting them.
  virtual void block_begins(std::size_t order, std::size_t lanes) = 0;
  virtual void barrier() = 0;
  // The lanes `first_lane` + bit of the mask have met in __syncwarp.
  virtual void warp_barrier(std::size_t first_lane, std::uint32_t mask) = 0;
  virtual void fence() = 0;
  // The running lane's access to shared or global memory that a device function makes for it.
  virtual void access(Access kind, const void* pointer, std::size_t size, Site site) = 0;
  virtual void memory_freed(const void* base, std::size_t size) = 0;
};

// Null in the plain build. Set before main.
AccessObserver*& observer();

}  // namespace simt
