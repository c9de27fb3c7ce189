#include "simt/launch.hpp"

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "simt/block.hpp"
#include "simt/errors.hpp"
#include "simt/fault.hpp"
#include "simt/observer.hpp"
#include "simt/stream.hpp"

namespace simt {
namespace {

constexpr std::size_t kMaxThreads = 1024;

// One launch at a time: the device's streams would be no faster here.
std::mutex launch_mutex;
Statistics totals;  // with launch_mutex
std::vector<std::unique_ptr<BlockRunner>> runners;

// The blocks of one launch, handed to host threads in a fixed order.
class Grid {
 public:
  Grid(LaunchJob job, std::size_t count) : job_(std::move(job)), order_(count), ended_(count) {
    for (std::size_t i = 0; i < count; ++i) order_[i] = i;
    Random random(job_.seed);
    for (std::size_t i = count; i > 1; --i) {
      std::swap(order_[i - 1], order_[random.below(static_cast<std::uint32_t>(i))]);
    }
    job_.await_turn = [this](std::size_t position) { await_turn(position); };
  }

  // Runs blocks until there are none left or one has failed.
  void work(BlockRunner& runner) {
    const SignalStack stack;
    while (!has_failed_) {
      const std::size_t position = next_++;
      if (position >= order_.size()) return;
      const std::size_t linear = order_[position];
      const std::size_t row = linear / job_.grid.x;
      const uint3 index = {static_cast<unsigned>(linear % job_.grid.x),
                           static_cast<unsigned>(row % job_.grid.y),
                           static_cast<unsigned>(row / job_.grid.y)};
      end(position, runner.run(job_, index, position));
    }
  }

  // Of the first block in the order that failed, so that it does not depend on the host's threads.
  const std::string& error() const { return error_; }

 private:
  void await_turn(std::size_t position) {
    if (first_running_.load(std::memory_order_acquire) == position) return;
    std::unique_lock<std::mutex> lock(mutex_);
    turn_.wait(lock, [&] { return first_running_.load() == position; });
  }

  void end(std::size_t position, std::string error) {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (!error.empty() && (!has_failed_ || position < failed_position_)) {
      error_ = std::move(error);
      failed_position_ = position;
      has_failed_ = true;
    }
    ended_[position] = 1;
    std::size_t first = first_running_.load();
    while (first < ended_.size() && ended_[first] != 0) ++first;
    first_running_.store(first, std::memory_order_release);
    turn_.notify_all();
  }

  LaunchJob job_;
  std::vector<std::size_t> order_;
  std::atomic<std::size_t> next_{0};
  std::atomic<std::size_t> first_running_{0};
  std::atomic<bool> has_failed_{false};
  std::mutex mutex_;
  std::condition_variable turn_;
  std::vector<char> ended_;
  std::size_t failed_position_ = 0;
  std::string error_;
};

std::size_t host_threads(std::size_t blocks) {
  if (observer() != nullptr) return 1;
  const unsigned wanted =
      settings().host_threads != 0 ? settings().host_threads : std::thread::hardware_concurrency();
  return std::min<std::size_t>(std::max(wanted, 1u), blocks);
}

std::string run_blocks(LaunchJob job, std::size_t blocks) {
  Grid grid(std::move(job), blocks);
  const std::size_t threads = host_threads(blocks);
  while (runners.size() < threads) runners.push_back(std::make_unique<BlockRunner>());
  std::vector<std::thread> others;
  for (std::size_t i = 1; i < threads; ++i) {
    others.emplace_back([&grid, runner = runners[i].get()] { grid.work(*runner); });
  }
  grid.work(*runners[0]);
  for (std::thread& thread : others) thread.join();
  for (std::size_t i = 0; i < threads; ++i) {
    const Statistics counted = std::exchange(runners[i]->statistics(), Statistics{});
    totals.blocks += counted.blocks;
    totals.switches += counted.switches;
    totals.matrix_loads += counted.matrix_loads;
    totals.bank_conflicts += counted.bank_conflicts;
  }
  return grid.error();
}

cudaError_t run_launch(dim3 grid, dim3 block, std::size_t shared_bytes, const void* kernel,
                       const std::function<void()>& body) {
  const std::lock_guard<std::mutex> lock(launch_mutex);
  LaunchJob job;
  job.grid = uint3{grid.x, grid.y, grid.z};
  job.block = uint3{block.x, block.y, block.z};
  job.shared_bytes = shared_bytes;
  job.kernel = kernel;
  job.body = &body;
  job.seed = settings().seed;
  job.memory = DeviceMemory::instance().map();
  if (observer() != nullptr) observer()->launch_begins();
  const FaultScope faults;
  std::string error = run_blocks(std::move(job), std::size_t{grid.x} * grid.y * grid.z);
  ++totals.launches;
  const std::string broken = DeviceMemory::instance().broken_red_zones();
  if (!broken.empty()) error += (error.empty() ? "a launch: " : "; ") + broken;
  return error.empty() ? cudaSuccess : refuse(cudaErrorLaunchFailure, error);
}

bool is_possible(dim3 grid, dim3 block, std::size_t shared_bytes) {
  const auto within = [](unsigned value, unsigned limit) { return value >= 1 && value <= limit; };
  return within(grid.x, 0x7fffffff) && within(grid.y, 65535) && within(grid.z, 65535) &&
         within(block.x, kMaxThreads) && within(block.y, kMaxThreads) && within(block.z, 64) &&
         std::size_t{block.x} * block.y * block.z <= kMaxThreads &&
         shared_bytes <= static_cast<std::size_t>(settings().max_shared_bytes) &&
         shared_bytes <= SharedMemory::kMaxBytes;
}

}  // namespace

cudaError launch(dim3 grid, dim3 block, std::size_t shared_bytes, Stream* stream,
                 const void* kernel, const std::function<void()>& body) {
  if (!is_possible(grid, block, shared_bytes)) return answer(cudaErrorInvalidConfiguration);
  return submit(stream, "a launch",
                [=] { return run_launch(grid, block, shared_bytes, kernel, body); });
}

Settings& settings() {
  static Settings settings;
  return settings;
}

AccessObserver*& observer() {
  static AccessObserver* observer = nullptr;
  return observer;
}

Statistics take_statistics() {
  const std::lock_guard<std::mutex> lock(launch_mutex);
  return std::exchange(totals, Statistics{});
}

}  // namespace simt
