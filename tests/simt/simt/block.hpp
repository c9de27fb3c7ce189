// BlockRunner: runs the threads of one block after another as fibers of the calling host thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "simt/device_memory.hpp"
#include "simt/fiber.hpp"
#include "simt/lane.hpp"
#include "simt/launch.hpp"
#include "simt/random.hpp"
#include "simt/shared_memory.hpp"

namespace simt {

// What all blocks of a launch share.
struct LaunchJob {
  uint3 grid;
  uint3 block;
  std::size_t shared_bytes;
  const void* kernel;
  const std::function<void()>* body;
  std::uint64_t seed;
  std::shared_ptr<const MemoryMap> memory;
  // Returns when all blocks before this one in the order have ended.
  std::function<void(std::size_t order)> await_turn;
};

class BlockRunner {
 public:
  BlockRunner();
  ~BlockRunner();
  BlockRunner(const BlockRunner&) = delete;
  BlockRunner& operator=(const BlockRunner&) = delete;

  // Runs block `index` of the grid, the order-th to begin. The error; empty when there was none.
  std::string run(const LaunchJob& job, uint3 index, std::size_t order);

  // The runner and the lane of the kernel that runs on this host thread; null outside of kernels.
  static BlockRunner* current();
  Lane& lane() { return *lane_; }
  const LaunchJob& job() const { return *job_; }
  SharedMemory& shared() { return shared_; }
  const SharedMemory& shared() const { return shared_; }
  Statistics& statistics() { return statistics_; }

  // Ends the launch: "<operation> at <site>: <what>", with the kernel, block and thread.
  [[noreturn]] void fail(const char* operation, Site site, const std::string& what);
  // The same from where nothing can be thrown: a signal, instrumentation. Leaves its stack as it is.
  [[noreturn]] void fail_at_once(const char* operation, Site site, const std::string& what);
  // Waits for the lanes of `mask`; the last to come calls `combine` before any goes on.
  void meet(const char* operation, std::uint32_t mask, Site site, void* slot, Combine combine);
  void barrier(Site site);
  void await_turn();  // in the order of blocks

 private:
  friend struct FaultHandler;

  static void lane_entry();
  void prepare_lanes();
  void note_error(const char* operation, Site site, const std::string& what);
  void make_runnable(Lane& lane);
  // Runs another lane until this one may run.
  void wait(const char* operation, Site site);
  void resume(Context* from, Lane& lane);
  void leave();  // the current lane has ended; returns when it was the last
  [[noreturn]] void stop();
  void exit_lane();
  std::string census() const;
  void check_mask(const char* operation, std::uint32_t mask, Site site);
  unsigned warp_lane() const { return lane_->number % kWarpLanes; }
  Warp& warp() { return warps_[lane_->number / kWarpLanes]; }

  SharedMemory shared_;
  std::unique_ptr<StackArena> stacks_;  // the last is that of the fault handler
  std::vector<Lane> lanes_;
  std::vector<Warp> warps_;
  std::vector<Lane*> runnable_;
  Context scheduler_;
  Random random_{0};
  Lane* lane_ = nullptr;
  const LaunchJob* job_ = nullptr;
  std::size_t order_ = 0;
  unsigned at_barrier_ = 0;
  Site barrier_site_{};
  std::string error_;
  const void* fault_address_ = nullptr;
  int fault_signal_ = 0;
  const void* host_stack_bottom_ = nullptr;  // for ASan's annotations
  std::size_t host_stack_bytes_ = 0;
  Statistics statistics_;
};

std::string text_of(Site site);
std::string text_of(const uint3& index);

}  // namespace simt
