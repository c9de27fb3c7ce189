// Lane, Warp: the state of threads inside a block.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "simt/fiber.hpp"
#include "simt/site.hpp"
#include "simt/vector_types.hpp"

namespace simt {

constexpr unsigned kWarpLanes = 32;

// A cp.async that has not landed.
struct PendingCopy {
  void* shared;
  const void* global;
  bool is_valid;
  Site site;
};

struct Lane {
  Context context;
  uint3 index;      // threadIdx
  unsigned number;  // in the block; x runs fastest
  bool has_exited;
  const char* waits_in;  // the function it waits in; null while it may run
  Site waits_at;
  std::vector<PendingCopy> copies;
  std::vector<std::size_t> group_ends;  // of the committed groups, as indices into copies
};

// What the last lane to arrive does for all: slots[i] is lane i's argument, null outside the mask.
using Combine = void (*)(void* const (&slots)[kWarpLanes], std::uint32_t mask);

// Lanes of a warp on their way into one collective.
struct Meeting {
  const char* operation;
  Site site;
  std::uint32_t mask;
  std::uint32_t arrived;
  void* slots[kWarpLanes];
};

struct Warp {
  std::uint32_t present;  // lanes that the block has
  std::uint32_t exited;
  unsigned meeting_count;
  Meeting meetings[kWarpLanes];  // of disjoint masks
};

}  // namespace simt
