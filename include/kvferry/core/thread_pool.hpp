// ThreadPool: threads for short data-parallel regions, a few microseconds apart.
#pragma once

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <thread>
#include <vector>

namespace kvferry {

// `threads` threads work on a region, the calling thread among them; with 1 none is created. The
// owner keeps the pool alive while anybody uses it; the destructor joins the threads.
//
// Threads wait for the next region by spinning for kSpin and then sleep, so an idle pool costs
// nothing; where threads outnumber processors they do not spin. The caller never waits for a thread
// that has not started on the region: on a busy machine it does the work itself.
class ThreadPool {
 public:
  static constexpr std::chrono::microseconds kSpin{60};

  // At least 1 thread is used; 0 means as many as the machine has processors.
  explicit ThreadPool(std::size_t threads) {
    if (threads == 0) threads = std::max(1u, std::thread::hardware_concurrency());
    const std::size_t processors = std::thread::hardware_concurrency();
    if (processors != 0 && threads > processors) spin_ = std::chrono::microseconds(0);
    workers_.reserve(threads - 1);
    for (std::size_t i = 1; i < threads; ++i) workers_.emplace_back([this, i] { work(i); });
  }

  ~ThreadPool() {
    {
      std::lock_guard<std::mutex> lock(mutex_);
      stop_.store(true);
    }
    wake_.notify_all();
    for (std::thread& t : workers_) t.join();
  }

  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  std::size_t thread_count() const { return workers_.size() + 1; }

  // Calls body(begin, end, thread) for disjoint ranges that cover [0, count), each of at most
  // `grain` indices, from any of the pool's threads; returns when all calls have. `thread` is below
  // thread_count() and differs between calls that run at the same time. `body` must not throw.
  // Which thread gets which range varies: a result must not depend on it. Any thread may call;
  // while the pool is busy with another region (a nested call included) the caller does all of its
  // own.
  template <typename Body>
  void parallel_for(std::size_t count, std::size_t grain, Body&& body) {
    if (count == 0) return;
    grain = std::max<std::size_t>(grain, 1);
    if (workers_.empty() || count <= grain || busy_.exchange(true, std::memory_order_acquire)) {
      for (std::size_t begin = 0; begin < count;) {
        const std::size_t end = begin + std::min(grain, count - begin);
        body(begin, end, std::size_t{0});
        begin = end;
      }
      return;
    }
    using Callable = std::remove_reference_t<Body>;
    call_ = [](const void* context, std::size_t begin, std::size_t end, std::size_t thread) {
      (*static_cast<Callable*>(const_cast<void*>(context)))(begin, end, thread);
    };
    context_ = &body;
    count_ = count;
    grain_ = grain;
    next_.store(0, std::memory_order_relaxed);
    open_region();
    run_ranges(0);
    close_region();
    busy_.store(false, std::memory_order_release);
  }

 private:
  using Call = void (*)(const void*, std::size_t, std::size_t, std::size_t);

  // control_ = region number << 17 | open << 16 | threads that joined and have not left. The fields
  // of a region are written while it is closed and nobody is in it.
  static constexpr std::uint64_t kOpen = 1u << 16;
  static constexpr std::uint64_t kJoined = kOpen - 1;
  static constexpr unsigned kRegionShift = 17;

  static void pause() {
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ __volatile__("yield");
#endif
  }

  void open_region() {
    const std::uint64_t region = (control_.load(std::memory_order_relaxed) >> kRegionShift) + 1;
    // Sequentially consistent with `sleeping_`: either we see the sleeper, or it sees the region.
    control_.store(region << kRegionShift | kOpen);
    if (sleeping_.load() == 0) return;
    { std::lock_guard<std::mutex> lock(mutex_); }
    wake_.notify_all();
  }

  void run_ranges(std::size_t thread) {
    for (;;) {
      const std::size_t begin = next_.fetch_add(grain_, std::memory_order_relaxed);
      if (begin >= count_) return;
      call_(context_, begin, begin + std::min(grain_, count_ - begin), thread);
    }
  }

  void close_region() {
    std::uint64_t control = control_.fetch_and(~kOpen, std::memory_order_acquire);
    for (unsigned spins = 0; (control & kJoined) != 0; ++spins) {
      if (spins < 2000) {
        pause();
      } else {
        std::this_thread::yield();
      }
      control = control_.load(std::memory_order_acquire);
    }
  }

  // Waits for an open region other than `last`; false when the pool stops.
  bool wait_for_region(std::uint64_t last) {
    const auto is_new = [&] {
      const std::uint64_t control = control_.load();
      return (control & kOpen) != 0 && control >> kRegionShift != last;
    };
    const auto spin_end = std::chrono::steady_clock::now() + spin_;
    do {
      for (int i = 0; i < 32; ++i) {
        if (is_new()) return true;
        pause();
      }
    } while (std::chrono::steady_clock::now() < spin_end);
    std::unique_lock<std::mutex> lock(mutex_);
    sleeping_.fetch_add(1);
    wake_.wait(lock, [&] { return stop_.load() || is_new(); });
    sleeping_.fetch_sub(1);
    return !stop_.load();
  }

  void work(std::size_t thread) {
    std::uint64_t last = 0;
    while (wait_for_region(last)) {
      std::uint64_t control = control_.load(std::memory_order_relaxed);
      while ((control & kOpen) != 0) {
        last = control >> kRegionShift;
        if (!control_.compare_exchange_weak(control, control + 1, std::memory_order_acquire)) {
          continue;
        }
        run_ranges(thread);
        control_.fetch_sub(1, std::memory_order_release);
        break;
      }
    }
  }

  std::chrono::microseconds spin_ = kSpin;
  std::vector<std::thread> workers_;

  // The region.
  Call call_ = nullptr;
  const void* context_ = nullptr;
  std::size_t count_ = 0;
  std::size_t grain_ = 0;
  alignas(64) std::atomic<std::size_t> next_{0};
  alignas(64) std::atomic<std::uint64_t> control_{0};

  alignas(64) std::atomic<bool> busy_{false};
  std::mutex mutex_;
  std::condition_variable wake_;
  std::atomic<unsigned> sleeping_{0};
  std::atomic<bool> stop_{false};
};

}  // namespace kvferry
