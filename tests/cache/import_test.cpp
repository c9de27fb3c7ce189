#include <algorithm>
#include <random>
#include <string>

#include <catch2/catch.hpp>

#include "kvferry/cache/sequence_adapters.hpp"

#include "marked_rows.hpp"

using namespace kvferry;

namespace {

const KvGeometry kGeometry = small_geometry(ElementType::kF16);

KvImportPlan plan_for(const KvSequence& sequence, std::uint32_t begin,
                      const std::vector<TokenId>& tokens) {
  KvImportPlan plan;
  plan.generation = sequence.generation();
  plan.base_length = sequence.length();
  plan.begin = begin;
  plan.end = begin + static_cast<std::uint32_t>(tokens.size());
  plan.tokens = tokens;
  return plan;
}

// Writes tokens [begin, begin + stamps.size()) of every layer and plane.
Status write_all(KvSink& sink, std::uint32_t begin, const std::vector<std::uint32_t>& stamps) {
  const auto end = begin + static_cast<std::uint32_t>(stamps.size());
  for (std::uint32_t l = 2; l < 5; ++l) {
    for (const Plane p : {Plane::kValue, Plane::kKey})
      KVFERRY_TRY(sink.write({l, p, begin, end}, marked_rows(kGeometry, l, p, stamps)));
  }
  return Status();
}

struct Fixture {
  std::shared_ptr<KvPool> pool = make_pool(kGeometry, 12);
  std::shared_ptr<KvSequence> sequence = KvSequence::create(pool);
  SequenceSink sink{sequence};
};

}  // namespace

TEST_CASE_METHOD(Fixture, "an import appears in one step, written in any order") {
  std::mt19937 random(7);
  std::vector<KvRange> pieces;
  for (std::uint32_t l = 2; l < 5; ++l) {
    for (const Plane p : {Plane::kKey, Plane::kValue}) {
      for (std::uint32_t at = 0; at < 75;) {
        const std::uint32_t end =
            std::min<std::uint32_t>(75, at + 1 + static_cast<std::uint32_t>(random() % 20));
        pieces.push_back({l, p, at, end});
        at = end;
      }
    }
  }
  std::shuffle(pieces.begin(), pieces.end(), random);
  REQUIRE(sink.begin(plan_for(*sequence, 0, numbers(0, 75))).ok());
  CHECK(pool->free_blocks() == 9);
  for (const KvRange& r : pieces) {
    CHECK(sink.commit().error().code == ErrorCode::kIncomplete);
    REQUIRE(
        sink.write(r, marked_rows(kGeometry, r.layer, r.plane, numbers(r.begin, r.tokens()))).ok());
    CHECK(sequence->length() == 0);
  }
  const KvCommit done = sink.commit().value();
  CHECK(done.length == 75);
  CHECK(done.generation == 1);
  CHECK(sequence->tokens() == numbers(0, 75));
  CHECK(holds_rows(*sequence, 0, numbers(0, 75)));
  CHECK(sink.commit().error().code == ErrorCode::kProtocol);
}

TEST_CASE_METHOD(Fixture, "an import that is dropped leaves no trace") {
  REQUIRE(append_marked(*sequence, numbers(0, 40)).ok());
  for (int round = 0; round < 3; ++round) {
    REQUIRE(sink.begin(plan_for(*sequence, 10, numbers(10, 60))).ok());
    CHECK(sink.begin(plan_for(*sequence, 0, {})).error().code == ErrorCode::kProtocol);
    REQUIRE(sink.write({2, Plane::kKey, 10, 70},
                       marked_rows(kGeometry, 2, Plane::kKey, numbers(900, 60)))
                .ok());
    CHECK(pool->free_blocks() == 7);
    sink.abort();
    sink.abort();
    CHECK(pool->free_blocks() == 10);
    CHECK(sequence->generation() == 0);
    CHECK(holds_rows(*sequence, 0, numbers(0, 40)));
    CHECK(sink.write({2, Plane::kKey, 10, 70},
                     marked_rows(kGeometry, 2, Plane::kKey, numbers(900, 60)))
              .error()
              .code == ErrorCode::kProtocol);
  }
  {
    const auto stage = KvStage::create(sequence, plan_for(*sequence, 0, numbers(0, 40))).value();
    CHECK(pool->free_blocks() == 8);
  }
  CHECK(pool->free_blocks() == 10);
}

TEST_CASE_METHOD(Fixture, "each row is taken once, and what is missing is named") {
  REQUIRE(sink.begin(plan_for(*sequence, 0, numbers(0, 40))).ok());
  const auto write = [this](std::uint32_t layer, Plane plane, std::uint32_t begin,
                            std::uint32_t end) {
    return sink.write({layer, plane, begin, end},
                      marked_rows(kGeometry, layer, plane, numbers(begin, end - begin)));
  };
  REQUIRE(write(2, Plane::kKey, 0, 40).ok());
  REQUIRE(write(2, Plane::kValue, 0, 33).ok());
  REQUIRE(write(2, Plane::kValue, 34, 40).ok());
  CHECK(write(2, Plane::kKey, 0, 40).error().code == ErrorCode::kProtocol);
  const Status overlap = write(2, Plane::kValue, 30, 40);
  CHECK(overlap.error().code == ErrorCode::kProtocol);
  CHECK(overlap.error().message.find("token 30") != std::string::npos);
  CHECK(write(2, Plane::kValue, 30, 41).error().code == ErrorCode::kInvalidArgument);
  CHECK(write(5, Plane::kValue, 0, 1).error().code == ErrorCode::kInvalidArgument);
  const auto incomplete = sink.commit();
  REQUIRE(!incomplete.ok());
  CHECK(incomplete.error().code == ErrorCode::kIncomplete);
  CHECK(incomplete.error().message.find("161 of 240") != std::string::npos);
  CHECK(incomplete.error().message.find("layer 2 V token 33") != std::string::npos);
  REQUIRE(write(2, Plane::kValue, 33, 34).ok());  // a refused overlap claimed nothing
  for (const std::uint32_t l : {3u, 4u}) {
    REQUIRE(write(l, Plane::kKey, 0, 40).ok());
    REQUIRE(write(l, Plane::kValue, 0, 40).ok());
  }
  CHECK(sink.commit().ok());
  CHECK(holds_rows(*sequence, 0, numbers(0, 40)));
}

TEST_CASE_METHOD(Fixture, "a commit merges with tokens that were appended meanwhile") {
  // Every place of begin, base and end against block boundaries, with and without tokens after it.
  for (const std::uint32_t base : {1u, 31u, 32u, 33u, 64u, 70u}) {
    for (const std::uint32_t begin : {0u, 1u, 31u, 32u, 33u, 64u, 70u}) {
      for (const std::uint32_t end : {1u, 32u, 40u, 64u, 70u, 96u}) {
        for (const std::uint32_t appended : {0u, 1u, 31u, 40u}) {
          if (begin > base || begin > end) continue;
          CAPTURE(base, begin, end, appended);
          auto local = KvSequence::create(pool);
          SequenceSink to(local);
          REQUIRE(append_marked(*local, numbers(0, base)).ok());
          // The ids agree with what is appended; the rows, by their stamps, do not.
          REQUIRE(to.begin(plan_for(*local, begin, numbers(begin, end - begin))).ok());
          REQUIRE((begin == end || write_all(to, begin, numbers(5000 + begin, end - begin)).ok()));
          if (appended != 0) {
            REQUIRE(append_marked(*local, numbers(base, appended)).ok());
          }
          const KvCommit done = to.commit().value();
          const std::uint32_t length = std::max(base + appended, end);
          CHECK(done.length == length);
          CHECK(local->tokens() == numbers(0, length));
          CHECK(holds_rows(*local, 0, numbers(0, begin)));
          CHECK(holds_rows(*local, begin, numbers(5000 + begin, end - begin)));
          CHECK(holds_rows(*local, end, numbers(end, length - end)));
          REQUIRE(append_marked(*local, numbers(length, 2)).ok());
          CHECK(holds_rows(*local, length, numbers(length, 2)));
        }
      }
    }
  }
  CHECK(pool->free_blocks() == 12);
}

TEST_CASE_METHOD(Fixture, "a commit leaves forks as they were") {
  REQUIRE(append_marked(*sequence, numbers(0, 50)).ok());
  auto fork = sequence->fork(50).value();
  REQUIRE(sink.begin(plan_for(*sequence, 20, numbers(20, 40))).ok());
  REQUIRE(write_all(sink, 20, numbers(800, 40)).ok());
  REQUIRE(sink.commit().ok());
  CHECK(holds_rows(*fork, 0, numbers(0, 50)));
  CHECK(holds_rows(*sequence, 0, numbers(0, 20)));
  CHECK(holds_rows(*sequence, 20, numbers(800, 40)));
  fork.reset();
  CHECK(pool->free_blocks() == 10);
}

TEST_CASE_METHOD(Fixture, "plans that do not fit are refused, at the start and at the commit") {
  REQUIRE(append_marked(*sequence, numbers(0, 50)).ok());
  const KvImportPlan good = plan_for(*sequence, 40, numbers(40, 20));
  KvImportPlan bad = good;
  bad.generation = 1;
  CHECK(sink.begin(bad).error().code == ErrorCode::kMismatch);
  bad = good;
  bad.base_length = 51;
  CHECK(sink.begin(bad).error().code == ErrorCode::kMismatch);
  bad = good;
  bad.base_length = 39;
  CHECK(sink.begin(bad).error().code == ErrorCode::kInvalidArgument);
  bad = good;
  bad.tokens.pop_back();
  CHECK(sink.begin(bad).error().code == ErrorCode::kInvalidArgument);
  bad = plan_for(*sequence, 50, numbers(50, 12 * 32));
  CHECK(sink.begin(bad).error().code == ErrorCode::kResourceExhausted);
  bad = plan_for(*sequence, 10, {10, 11, 99});  // tokens 13 to 49 depend on token 12
  CHECK(sink.begin(bad).error().code == ErrorCode::kMismatch);

  REQUIRE(sink.begin(good).ok());
  REQUIRE(write_all(sink, 40, numbers(40, 20)).ok());
  REQUIRE(append_marked(*sequence, {50, 51, 7}).ok());  // token 52 is not what the import has
  const auto refused = sink.commit();
  REQUIRE(!refused.ok());
  CHECK(refused.error().code == ErrorCode::kMismatch);
  CHECK(refused.error().message.find("token 52 is id 7") != std::string::npos);
  CHECK(sequence->generation() == 0);
  CHECK(sequence->length() == 53);
  sink.abort();

  REQUIRE(sink.begin(plan_for(*sequence, 0, numbers(600, 53))).ok());  // nothing stays: new ids
  REQUIRE(write_all(sink, 0, numbers(600, 53)).ok());
  CHECK(sink.commit().ok());
  CHECK(sequence->tokens() == numbers(600, 53));

  REQUIRE(sink.begin(plan_for(*sequence, 53, numbers(653, 1))).ok());
  REQUIRE(write_all(sink, 53, numbers(653, 1)).ok());
  REQUIRE(sequence->truncate(53).ok());
  CHECK(sink.commit().error().code == ErrorCode::kMismatch);
}

TEST_CASE_METHOD(Fixture, "a thread cannot commit into the append that it holds itself") {
  REQUIRE(sink.begin(plan_for(*sequence, 0, {})).ok());
  {
    const auto append = sequence->append(numbers(0, 1)).value();
    CHECK(sink.commit().error().code == ErrorCode::kProtocol);
  }
  CHECK(sink.commit().ok());
}
