#include "kvferry/cache/sequence.hpp"

#include <memory>

#include <catch2/catch.hpp>

#include "kvferry/cache/sequence_adapters.hpp"

#include "marked_rows.hpp"

using namespace kvferry;

namespace {

const KvGeometry kGeometry = small_geometry(ElementType::kF16);

}  // namespace

TEST_CASE("appended tokens are read back, whatever the chunks") {
  for (const ElementType type : {ElementType::kF16, ElementType::kBF16, ElementType::kF32}) {
    const auto sequence = KvSequence::create(make_pool(small_geometry(type), 5));
    std::uint32_t length = 0;
    for (const std::uint32_t chunk : {1u, 30u, 1u, 1u, 31u, 32u, 64u}) {
      REQUIRE(append_marked(*sequence, numbers(length, chunk)).ok());
      length += chunk;
      CHECK(sequence->length() == length);
      CHECK(sequence->pool()->free_blocks() == 5 - (length + 31) / 32);
    }
    CHECK(sequence->tokens() == numbers(0, 160));
    CHECK(holds_rows(*sequence, 0, numbers(0, 160)));
    CHECK(holds_rows(*sequence, 33, numbers(33, 5)));
    CHECK(sequence->generation() == 0);
    CHECK(append_marked(*sequence, {1}).error().code == ErrorCode::kResourceExhausted);
    CHECK(sequence->length() == 160);
  }
}

TEST_CASE("an append that is dropped leaves no trace") {
  const auto sequence = KvSequence::create(make_pool(kGeometry, 4));
  REQUIRE(append_marked(*sequence, numbers(0, 20)).ok());
  {
    const auto append = sequence->append(numbers(500, 60)).value();
    CHECK(append.begin() == 20);
    CHECK(append.end() == 80);
    CHECK(append.blocks().size() == 3);
    CHECK(sequence->length() == 20);
    CHECK(sequence->tokens() == numbers(0, 20));
    CHECK(sequence->append(numbers(0, 1)).error().code == ErrorCode::kProtocol);
    CHECK(sequence->truncate(1).error().code == ErrorCode::kProtocol);
    write_append(kGeometry, append, numbers(500, 60));
  }
  CHECK(sequence->length() == 20);
  CHECK(sequence->pool()->free_blocks() == 3);
  CHECK(holds_rows(*sequence, 0, numbers(0, 20)));
  CHECK(sequence->append({}).error().code == ErrorCode::kInvalidArgument);
  REQUIRE(append_marked(*sequence, numbers(20, 1)).ok());
  CHECK(holds_rows(*sequence, 0, numbers(0, 21)));
}

TEST_CASE("rows of an open append can be read while the rest is computed") {
  const auto sequence = KvSequence::create(make_pool(kGeometry, 4));
  const SequenceSource source(sequence);
  auto append = sequence->append(numbers(0, 40)).value();
  write_append(kGeometry, append, numbers(0, 40));
  CHECK(holds_rows(*sequence, 0, numbers(0, 40)));
  append.publish();
  std::vector<std::uint8_t> rows(kGeometry.row_bytes());
  CHECK(source.read({2, Plane::kKey, 39, 40}, rows).ok());
  CHECK(source.read({2, Plane::kKey, 40, 41}, rows).error().code == ErrorCode::kInvalidArgument);
}

TEST_CASE("reading names what is wrong with a range") {
  const auto sequence = KvSequence::create(make_pool(kGeometry, 2));
  REQUIRE(append_marked(*sequence, numbers(0, 3)).ok());
  const SequenceSource source(sequence);
  std::vector<std::uint8_t> rows(3 * kGeometry.row_bytes());
  CHECK(source.read({2, Plane::kKey, 0, 3}, rows).ok());
  for (const KvRange bad :
       {KvRange{1, Plane::kKey, 0, 3}, KvRange{5, Plane::kKey, 0, 3}, KvRange{2, Plane::kKey, 0, 2},
        KvRange{2, Plane::kKey, 3, 0}, KvRange{2, Plane::kKey, 1, 4},
        KvRange{2, static_cast<Plane>(2), 0, 3}, KvRange{2, Plane::kKey, 0xfffffffeu, 1}}) {
    CHECK(source.read(bad, rows).error().code == ErrorCode::kInvalidArgument);
  }
  CHECK(source.read({2, Plane::kKey, 0, 3}, MutableBytes(rows.data(), rows.size() - 1))
            .error()
            .code == ErrorCode::kInvalidArgument);
  REQUIRE(sequence->truncate(3).ok());
  CHECK(source.read({2, Plane::kKey, 0, 3}, rows).error().code == ErrorCode::kMismatch);
}

TEST_CASE("forks share blocks until one of them writes") {
  const auto pool = make_pool(kGeometry, 8);
  auto a = KvSequence::create(pool);
  KvOrigin origin;
  origin.model = 77;
  origin.provenance.path = "cpu";
  a->set_origin(origin);
  REQUIRE(append_marked(*a, numbers(0, 70)).ok());
  CHECK(a->fork(71).error().code == ErrorCode::kInvalidArgument);
  auto b = a->fork(50).value();
  CHECK(b->origin() == origin);
  CHECK(pool->free_blocks() == 5);  // shared: nothing was allocated
  REQUIRE(append_marked(*b, numbers(1000, 3)).ok());
  CHECK(pool->free_blocks() == 4);  // the half-filled block was copied
  CHECK(holds_rows(*a, 0, numbers(0, 70)));
  CHECK(holds_rows(*b, 0, numbers(0, 50)));
  CHECK(holds_rows(*b, 50, numbers(1000, 3)));
  REQUIRE(append_marked(*a, numbers(70, 1)).ok());  // its tail was not shared
  CHECK(pool->free_blocks() == 4);
  const auto c = a->fork(64).value();
  REQUIRE(append_marked(*c, numbers(9, 1)).ok());  // at a block boundary there is nothing to copy
  CHECK(pool->free_blocks() == 3);
  a.reset();
  CHECK(pool->free_blocks() == 4);
  CHECK(holds_rows(*c, 0, numbers(0, 64)));
  b.reset();
  CHECK(pool->free_blocks() == 5);
}

TEST_CASE("a copy on write that finds no block changes nothing") {
  const auto pool = make_pool(kGeometry, 1);
  const auto a = KvSequence::create(pool);
  REQUIRE(append_marked(*a, numbers(0, 5)).ok());
  auto b = a->fork(5).value();
  CHECK(append_marked(*a, numbers(5, 1)).error().code == ErrorCode::kResourceExhausted);
  CHECK(holds_rows(*a, 0, numbers(0, 5)));
  b.reset();
  CHECK(append_marked(*a, numbers(5, 1)).ok());
}

TEST_CASE("truncation frees blocks and counts as a change") {
  const auto pool = make_pool(kGeometry, 4);
  const auto a = KvSequence::create(pool);
  REQUIRE(append_marked(*a, numbers(0, 100)).ok());
  CHECK(a->truncate(101).error().code == ErrorCode::kInvalidArgument);
  REQUIRE(a->truncate(64).ok());
  CHECK(pool->free_blocks() == 2);
  CHECK(a->generation() == 1);
  CHECK(a->tokens() == numbers(0, 64));
  REQUIRE(a->truncate(0).ok());
  CHECK(pool->free_blocks() == 4);
  REQUIRE(append_marked(*a, numbers(7, 2)).ok());
  CHECK(holds_rows(*a, 0, numbers(7, 2)));
}

TEST_CASE("prefixes are matched token by token") {
  const auto a = KvSequence::create(make_pool(kGeometry, 1));
  REQUIRE(append_marked(*a, {5, 6, 7}).ok());
  CHECK(a->matching_prefix(std::vector<TokenId>{}) == 0);
  CHECK(a->matching_prefix(std::vector<TokenId>{5, 6}) == 2);
  CHECK(a->matching_prefix(std::vector<TokenId>{5, 9, 7}) == 1);
  CHECK(a->matching_prefix(std::vector<TokenId>{5, 6, 7, 8}) == 3);
}
