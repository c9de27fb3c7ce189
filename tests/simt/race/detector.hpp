// Detector: finds accesses of two threads to the same bytes, one of them a write, that nothing
// orders.
//
// Order within a block: __syncthreads orders all; __syncwarp the lanes of its mask; shuffles, votes
// and atomics on shared memory nothing. Between blocks: what a block's thread knew at an atomic on
// global memory, if any thread of the block had called __threadfence by then, comes before what the
// next thread to use the same atomic does afterwards. Launches are ordered. Two atomics never race.
//
// It is exact but for two cases in which it may report what is ordered: words that lanes of one
// warp read in parts ordered by masks of fewer lanes, and words that several blocks read before one
// writes them in the same launch.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "race/shadow.hpp"
#include "simt/block.hpp"
#include "simt/observer.hpp"

namespace simt {

class Detector : public AccessObserver {
 public:
  void launch_begins() override;
  void block_begins(std::size_t order, std::size_t lanes) override;
  void barrier() override;
  void warp_barrier(std::size_t first_lane, std::uint32_t mask) override;
  void fence() override;
  void access(Access kind, const void* pointer, std::size_t size, Site site) override;
  void memory_freed(const void* base, std::size_t size) override;

  // An access of instrumented code at the return address `code`. `alignment` is what the code
  // relies on.
  void instrumented_access(Access kind, const void* pointer, std::size_t size,
                           std::size_t alignment, const void* code);

 private:
  struct Release {
    std::uint32_t block;
    Moment barrier;  // what the block did before it
    std::uint32_t warp;
    std::array<Moment, kWarpLanes> known;  // and what lanes of the warp did up to then
  };
  using Releases = std::set<std::shared_ptr<const Release>>;

  // The access being looked at.
  struct Current {
    BlockRunner* runner;
    Access kind;
    const char* pointer;
    Site site;
    const void* code;
    bool is_shared;
    std::uint32_t lane;
  };

  Shadow& shadow_of(const Allocation& allocation);
  void touch(Shadow& shadow, const Current& current, std::size_t size);
  SplitCells& split(Cell& cell, Moment valid_from);
  void look_at(Cell& cell, const Current& current, Moment valid_from);
  void note_read(Cell& cell, const Current& current, Moment valid_from) const;
  bool is_ordered(Moment moment, std::uint32_t block, std::uint32_t lane,
                  const Current& current) const;
  bool reads_are_ordered(const Cell& cell, const Current& current) const;
  void synchronise(const Current& current);
  [[noreturn]] static void report(const Current& current, const std::string& what);
  std::string other_thread(std::uint32_t who) const;

  Moment now_ = 1;
  Moment launch_start_ = 1;
  Moment block_start_ = 1;
  Moment last_barrier_ = 1;
  std::uint32_t block_ = 0;
  bool has_fenced_ = false;
  std::vector<Moment> clock_;                          // [lanes]
  std::vector<std::array<Moment, kWarpLanes>> known_;  // [lanes], of the lanes of the warp
  Releases block_acquired_;                            // before the last barrier
  std::map<std::uint32_t, Releases> lane_acquired_;    // since then
  std::map<const void*, Releases> published_;          // at each atomic
  std::unique_ptr<Shadow> shared_;
  std::map<const void*, Shadow> global_;
  Shadow* last_global_ = nullptr;
  std::vector<SplitCells> splits_;
};

}  // namespace simt
