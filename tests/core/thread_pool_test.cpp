#include "kvferry/core/thread_pool.hpp"

#include <atomic>
#include <thread>
#include <vector>

#include <catch2/catch.hpp>

using kvferry::ThreadPool;

TEST_CASE("every index is visited once, in ranges of at most the grain") {
  for (const std::size_t threads : {1, 2, 3, 8}) {
    ThreadPool pool(threads);
    CHECK(pool.thread_count() == threads);
    for (const std::size_t count : {0, 1, 2, 7, 64, 1000}) {
      for (const std::size_t grain : {0, 1, 3, 64, 5000}) {
        std::vector<std::atomic<int>> visits(count);
        std::atomic<int> bad{0};
        pool.parallel_for(count, grain,
                          [&](std::size_t begin, std::size_t end, std::size_t thread) {
                            if (begin >= end || end > count || thread >= threads) ++bad;
                            if (end - begin > std::max<std::size_t>(grain, 1)) ++bad;
                            for (std::size_t i = begin; i < end; ++i) ++visits[i];
                          });
        CHECK(bad == 0);
        int wrong = 0;
        for (const auto& v : visits) wrong += v != 1;
        CHECK(wrong == 0);
      }
    }
  }
}

TEST_CASE("thread numbers differ between calls that run at the same time") {
  ThreadPool pool(4);
  std::vector<std::atomic<int>> inside(4);
  std::atomic<int> clashes{0};
  for (int region = 0; region < 2000; ++region) {
    pool.parallel_for(16, 1, [&](std::size_t, std::size_t, std::size_t thread) {
      if (inside[thread].fetch_add(1) != 0) ++clashes;
      inside[thread].fetch_sub(1);
    });
  }
  CHECK(clashes == 0);
}

TEST_CASE("plain memory written in a region is seen by the next") {
  ThreadPool pool(3);
  std::vector<long> from(3000, 0), to(3000, 0);
  long wrong = 0;
  for (long region = 1; region <= 3000; ++region) {
    // Mirrored, so that most values were written by another thread.
    pool.parallel_for(to.size(), 100, [&](std::size_t begin, std::size_t end, std::size_t) {
      for (std::size_t i = begin; i < end; ++i) to[i] = from[from.size() - 1 - i] + 1;
    });
    from.swap(to);
    for (const long v : from) wrong += v != region;
    if (region % 500 == 0) std::this_thread::sleep_for(std::chrono::milliseconds(2));
  }
  CHECK(wrong == 0);
}

TEST_CASE("nested regions and several callers at once do their own work") {
  ThreadPool pool(3);
  std::atomic<long> sum{0};
  std::vector<std::thread> callers;
  for (int c = 0; c < 4; ++c) {
    callers.emplace_back([&] {
      for (int i = 0; i < 200; ++i) {
        pool.parallel_for(8, 1, [&](std::size_t begin, std::size_t, std::size_t) {
          pool.parallel_for(4, 1, [&](std::size_t b, std::size_t, std::size_t) {
            sum += static_cast<long>(begin * 4 + b);
          });
        });
      }
    });
  }
  for (std::thread& t : callers) t.join();
  CHECK(sum == 4 * 200 * (31 * 32 / 2));
}

TEST_CASE("a pool may be dropped at any moment after a region") {
  for (int i = 0; i < 200; ++i) {
    ThreadPool pool(3);
    std::atomic<int> ran{0};
    if (i % 2) pool.parallel_for(3, 1, [&](std::size_t, std::size_t, std::size_t) { ++ran; });
    CHECK(ran == (i % 2 ? 3 : 0));
  }
}
