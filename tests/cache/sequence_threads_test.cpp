// What several threads may do at once; runs under ThreadSanitizer.
#include <atomic>
#include <chrono>
#include <thread>

#include <catch2/catch.hpp>

#include "kvferry/cache/sequence_adapters.hpp"

#include "marked_rows.hpp"

using namespace kvferry;

namespace {

const KvGeometry kGeometry = small_geometry(ElementType::kF16);

// Checks rows as attention reads them, through the block pointers of an open append.
bool append_sees(const KvAppend& append, std::uint32_t token, std::uint32_t stamp) {
  std::uint16_t first;
  std::memcpy(&first, append.blocks()[token / 32] + token % 32 * 12, 2);
  return first == static_cast<std::uint16_t>(marked_value(stamp, 2, Plane::kKey, 0, 0));
}

}  // namespace

TEST_CASE("blocks are allocated and shared from many threads") {
  const auto pool = make_pool(kGeometry, 64);
  std::vector<std::thread> threads;
  for (std::uint32_t n = 0; n < 4; ++n) {
    threads.emplace_back([&pool, n] {
      std::vector<KvBlock> held;
      for (std::uint32_t i = 0; i < 2000; ++i) {
        auto blocks = pool->allocate(1 + (i + n) % 5);
        if (blocks.ok()) {
          for (const KvBlock& b : *blocks) b.data()[n] = static_cast<std::uint8_t>(i);
          held.push_back((*blocks)[0]);
        }
        if (held.size() > 8) held.clear();
      }
    });
  }
  for (std::thread& t : threads) t.join();
  CHECK(pool->free_blocks() == 64);
}

TEST_CASE("decoding goes on while updates are staged and committed") {
  constexpr std::uint32_t kSteps = 300;
  const auto pool = make_pool(kGeometry, 64);
  const auto sequence = KvSequence::create(pool);
  REQUIRE(append_marked(*sequence, numbers(0, 40)).ok());
  std::atomic<bool> decoding{true};
  std::atomic<int> failures{0};

  std::thread decoder([&] {
    for (std::uint32_t step = 0; step < kSteps; ++step) {
      auto append = sequence->append(numbers(40 + step, 1));
      if (!append.ok()) {
        ++failures;
        break;
      }
      write_append(kGeometry, *append, {40 + step});
      // Within a step the earliest token does not change under the reader: it has the first
      // content or an update's, the same before and after.
      const bool before = append_sees(*append, 0, 0);
      std::this_thread::yield();
      if (before != append_sees(*append, 0, 0)) ++failures;
      if (!append_sees(*append, append->begin() - 1, append->begin() - 1)) ++failures;
      append->publish();
    }
    decoding = false;
  });
  std::thread exporter([&] {
    std::vector<std::uint8_t> rows(40 * kGeometry.row_bytes());
    while (decoding) {
      const SequenceSource source(sequence);
      const Status read = source.read({3, Plane::kValue, 0, 40}, rows);
      if (!read.ok() && read.error().code != ErrorCode::kMismatch) ++failures;
      const auto fork = sequence->fork(35);
      if (!fork.ok() || (*fork)->length() != 35) ++failures;
    }
  });

  // The updates replace the oldest 20 tokens; each is written by two threads.
  std::uint32_t commits = 0;
  while (decoding) {
    KvImportPlan plan;
    plan.generation = sequence->generation();
    plan.base_length = sequence->length();
    plan.end = 20;
    plan.tokens = numbers(0, 20);
    auto stage = KvStage::create(sequence, plan);
    REQUIRE(stage.ok());
    std::vector<std::thread> writers;
    for (const Plane p : {Plane::kKey, Plane::kValue}) {
      writers.emplace_back([&, p] {
        for (std::uint32_t l = 2; l < 5; ++l) {
          const KvRange range{l, p, 0, 20};
          if (!(*stage)->write(range, marked_rows(kGeometry, l, p, numbers(7000, 20))).ok())
            ++failures;
        }
      });
    }
    for (std::thread& w : writers) w.join();
    if (!(*stage)->commit().ok()) ++failures;
    ++commits;
  }
  decoder.join();
  exporter.join();
  CHECK(failures == 0);
  CHECK(commits > 0);
  CHECK(sequence->generation() == commits);
  CHECK(sequence->length() == 40 + kSteps);
  CHECK(holds_rows(*sequence, 0, numbers(7000, 20)));
  CHECK(holds_rows(*sequence, 20, numbers(20, 20 + kSteps)));
  CHECK(pool->free_blocks() == 64 - (40 + kSteps + 31) / 32);
}

TEST_CASE("a commit waits for the token boundary") {
  const auto sequence = KvSequence::create(make_pool(kGeometry, 4));
  REQUIRE(append_marked(*sequence, numbers(0, 3)).ok());
  KvImportPlan plan;
  plan.base_length = 3;
  plan.end = 3;
  plan.tokens = numbers(0, 3);
  const auto stage = KvStage::create(sequence, plan).value();
  for (std::uint32_t l = 2; l < 5; ++l) {
    for (const Plane p : {Plane::kKey, Plane::kValue})
      REQUIRE(stage->write({l, p, 0, 3}, marked_rows(kGeometry, l, p, numbers(50, 3))).ok());
  }
  auto append = sequence->append(numbers(3, 1)).value();
  std::atomic<bool> committed{false};
  std::thread committer([&] { committed = stage->commit().ok(); });
  write_append(kGeometry, append, {3});
  CHECK(append_sees(append, 0, 0));
  CHECK(!committed);
  CHECK(sequence->generation() == 0);
  append.publish();
  committer.join();
  CHECK(committed);
  CHECK(sequence->length() == 4);
  CHECK(holds_rows(*sequence, 0, numbers(50, 3)));
  CHECK(holds_rows(*sequence, 3, numbers(3, 1)));
}

TEST_CASE("an abort waits for writes under way and frees the blocks once") {
  const auto pool = make_pool(kGeometry, 8);
  const auto sequence = KvSequence::create(pool);
  for (int round = 0; round < 50; ++round) {
    SequenceSink sink(sequence);
    KvImportPlan plan;
    plan.end = 200;
    plan.tokens = numbers(0, 200);
    REQUIRE(sink.begin(plan).ok());
    std::thread writer([&] {
      for (std::uint32_t t = 0; t < 200; t += 10) {
        const auto rows = marked_rows(kGeometry, 2, Plane::kKey, numbers(t, 10));
        if (!sink.write({2, Plane::kKey, t, t + 10}, rows).ok()) return;
      }
    });
    sink.abort();
    CHECK(pool->free_blocks() == 8);
    writer.join();
  }
}

TEST_CASE("commit and abort wait for the rows that are being copied") {
  for (const bool abort : {false, true}) {
    KvImportLedger ledger(kGeometry, 0, 1);
    const auto nothing = [] { return Status(); };
    for (std::uint32_t l = 2; l < 5; ++l)
      REQUIRE(ledger.write({l, Plane::kKey, 0, 1}, nothing).ok());
    for (std::uint32_t l = 2; l < 4; ++l)
      REQUIRE(ledger.write({l, Plane::kValue, 0, 1}, nothing).ok());
    std::atomic<bool> copying{false};
    std::atomic<bool> go_on{false};
    std::atomic<bool> copied{false};
    std::atomic<bool> closed_too_early{false};
    std::atomic<bool> took_effect{false};
    std::atomic<bool> closed{false};
    std::thread writer([&] {
      took_effect = ledger
                        .write({4, Plane::kValue, 0, 1},
                               [&] {
                                 copying = true;
                                 while (!go_on) std::this_thread::yield();
                                 copied = true;
                                 return Status();
                               })
                        .ok();
    });
    while (!copying) std::this_thread::yield();
    std::thread closer([&] {
      if (abort) {
        closed = ledger.abort();
        closed_too_early = !copied;
      } else {
        closed = ledger
                     .commit([&]() -> Result<KvCommit> {
                       closed_too_early = !copied;
                       return KvCommit();
                     })
                     .ok();
      }
    });
    // Time for a closer that does not wait to be seen; one that does is right at any speed.
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
    go_on = true;
    writer.join();
    closer.join();
    CHECK(took_effect);
    CHECK(closed);
    CHECK(!closed_too_early);
    CHECK(!ledger.abort());
    CHECK(ledger.commit([] { return Result<KvCommit>(KvCommit()); }).error().code ==
          ErrorCode::kProtocol);
  }
}
