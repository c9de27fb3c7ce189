// Caches in a memory that the process cannot reach, as a GPU's may be.
#include "kvferry/cache/memory.hpp"

#include <catch2/catch.hpp>
#include <sys/mman.h>

#include "kvferry/cache/sequence_adapters.hpp"

#include "marked_rows.hpp"

using namespace kvferry;

namespace {

const KvGeometry kGeometry = small_geometry(ElementType::kF16);

// Its addresses are pages without access; what they stand for lies elsewhere.
class FarMemory final : public KvMemory {
 public:
  ~FarMemory() override { CHECK(base_ == nullptr); }

  const char* name() const override { return "far"; }
  Result<std::uint8_t*> allocate(std::size_t bytes) override {
    if (bytes > kMost) return Error(ErrorCode::kResourceExhausted, "far: no room");
    void* const pages =
        mmap(nullptr, kMost, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    REQUIRE(pages != MAP_FAILED);
    base_ = static_cast<std::uint8_t*>(pages);
    content_.assign(bytes, 0xee);
    return base_;
  }
  void release(std::uint8_t* base) noexcept override {
    munmap(base, kMost);
    base_ = nullptr;
  }
  Status read(std::uint8_t* to, const std::uint8_t* block, const KvPieces& pieces) override {
    return copy(to, at(block), pieces);
  }
  Status write(std::uint8_t* block, const std::uint8_t* from, const KvPieces& pieces) override {
    return copy(at(block), from, pieces);
  }
  Status move(std::uint8_t* to, const std::uint8_t* from, const KvPieces& pieces) override {
    return copy(at(to), at(from), pieces);
  }

  int copies_left = -1;  // before one fails; -1: none does

 private:
  static constexpr std::size_t kMost = std::size_t{1} << 20;

  std::uint8_t* at(const std::uint8_t* address) { return content_.data() + (address - base_); }
  Status copy(std::uint8_t* to, const std::uint8_t* from, const KvPieces& pieces) {
    if (copies_left == 0) return Error(ErrorCode::kIo, "far: a copy failed");
    if (copies_left > 0) --copies_left;
    for (std::size_t i = 0; i < pieces.count; ++i)
      std::memcpy(to + i * pieces.to_stride, from + i * pieces.from_stride, pieces.bytes);
    return Status();
  }

  std::uint8_t* base_ = nullptr;
  std::vector<std::uint8_t> content_;
};

struct Fixture {
  std::shared_ptr<FarMemory> memory = std::make_shared<FarMemory>();
  std::shared_ptr<KvPool> pool = KvPool::create(kGeometry, 12, memory).value();
  std::shared_ptr<KvSequence> sequence = KvSequence::create(pool);
  SequenceSink sink{sequence};

  KvImportPlan plan(std::uint32_t begin, std::uint32_t count) const {
    KvImportPlan made;
    made.generation = sequence->generation();
    made.base_length = sequence->length();
    made.begin = begin;
    made.end = begin + count;
    made.tokens = numbers(begin, count);
    return made;
  }
  // Every row of tokens [begin, begin + stamps.size()).
  Status write(std::uint32_t begin, const std::vector<std::uint32_t>& stamps) {
    KvRange r;
    r.begin = begin;
    r.end = begin + static_cast<std::uint32_t>(stamps.size());
    for (r.layer = 2; r.layer < 5; ++r.layer) {
      for (const Plane p : {Plane::kKey, Plane::kValue}) {
        r.plane = p;
        KVFERRY_TRY(sink.write(r, marked_rows(kGeometry, r.layer, p, stamps)));
      }
    }
    return Status();
  }
  // Tokens [0, count), imported.
  void import(std::uint32_t count) {
    REQUIRE(sink.begin(plan(0, count)).ok());
    REQUIRE(write(0, numbers(0, count)).ok());
    REQUIRE(sink.commit().ok());
  }
};

}  // namespace

TEST_CASE_METHOD(Fixture, "a cache is imported, shared, replaced and read without being reached") {
  import(75);
  CHECK(holds_rows(*sequence, 0, numbers(0, 75)));

  // The fork copies the block that it shares before it writes.
  const auto fork = sequence->fork(70).value();
  {
    KvAppend append = fork->append(numbers(70, 1)).value();
    const KvBlockLayout& layout = pool->layout();
    for (KvRange r{2, Plane::kKey, 70, 71}; r.layer < 5; ++r.layer) {
      for (const Plane p : {Plane::kKey, Plane::kValue}) {
        r.plane = p;
        const auto rows = marked_rows(kGeometry, r.layer, p, numbers(900, 1));
        REQUIRE(layout
                    .for_each_tile(r,
                                   [&](const KvTileRows& t) {
                                     return memory->write(append.blocks()[t.block] + t.block_offset,
                                                          rows.data() + t.row_offset,
                                                          {layout.head_bytes, t.count, 0, 0});
                                   })
                    .ok());
      }
    }
    append.publish();
  }
  CHECK(holds_rows(*fork, 0, numbers(0, 70)));
  CHECK(holds_rows(*fork, 70, numbers(900, 1)));
  CHECK(holds_rows(*sequence, 0, numbers(0, 75)));

  // Tokens on both sides of what an import replaces stay.
  REQUIRE(sink.begin(plan(10, 25)).ok());
  REQUIRE(write(10, numbers(500, 25)).ok());
  REQUIRE(sink.commit().ok());
  CHECK(holds_rows(*sequence, 0, numbers(0, 10)));
  CHECK(holds_rows(*sequence, 10, numbers(500, 25)));
  CHECK(holds_rows(*sequence, 35, numbers(35, 40)));
  CHECK(holds_rows(*fork, 0, numbers(0, 70)));
}

TEST_CASE_METHOD(Fixture, "an import of which a copy failed is never committed") {
  import(40);
  REQUIRE(sink.begin(plan(40, 30)).ok());
  const std::uint32_t free = pool->free_blocks();
  memory->copies_left = 7;
  CHECK(write(40, numbers(40, 30)).error().code == ErrorCode::kIo);
  memory->copies_left = -1;
  KvRange other{4, Plane::kValue, 40, 41};
  CHECK(sink.write(other, marked_rows(kGeometry, 4, Plane::kValue, numbers(40, 1))).error().code ==
        ErrorCode::kIo);
  CHECK(sink.commit().error().code == ErrorCode::kIo);
  sink.abort();
  CHECK(pool->free_blocks() > free);
  CHECK(sequence->length() == 40);
  CHECK(holds_rows(*sequence, 0, numbers(0, 40)));
}

TEST_CASE_METHOD(Fixture, "a copy that fails inside the cache changes nothing") {
  import(40);
  const auto fork = sequence->fork(35).value();
  const std::uint32_t free = pool->free_blocks();
  memory->copies_left = 0;
  CHECK(fork->append(numbers(35, 1)).error().code == ErrorCode::kIo);
  std::vector<std::uint8_t> row(kGeometry.row_bytes());
  CHECK(sequence->read({2, Plane::kKey, 0, 1}, sequence->generation(), row).error().code ==
        ErrorCode::kIo);
  memory->copies_left = -1;
  CHECK(pool->free_blocks() == free);
  CHECK(fork->length() == 35);

  REQUIRE(sink.begin(plan(10, 10)).ok());
  REQUIRE(write(10, numbers(700, 10)).ok());
  memory->copies_left = 1;  // the rows before are copied, those behind are not
  CHECK(sink.commit().error().code == ErrorCode::kIo);
  CHECK(holds_rows(*fork, 0, {}));
  memory->copies_left = -1;
  CHECK(sequence->generation() == 1);
  CHECK(holds_rows(*sequence, 0, numbers(0, 40)));
  REQUIRE(sink.commit().ok());
  CHECK(holds_rows(*sequence, 10, numbers(700, 10)));
  CHECK(holds_rows(*sequence, 20, numbers(20, 20)));
}

TEST_CASE("memory that is too small for a pool says so") {
  const auto memory = std::make_shared<FarMemory>();
  const auto pool = KvPool::create(kGeometry, 4096, memory);
  REQUIRE_FALSE(pool.ok());
  CHECK(pool.error().code == ErrorCode::kResourceExhausted);
  CHECK(pool.error().message.find("far: no room for 4096 blocks") != std::string::npos);
}
