#include "kvferry/cache/strided.hpp"

#include <string>

#include <catch2/catch.hpp>

#include "marked_rows.hpp"

using namespace kvferry;

namespace {

constexpr std::uint32_t kCapacity = 37;

KvImportPlan plan_of(std::uint32_t begin, std::uint32_t count) {
  KvImportPlan plan;
  plan.generation = 4;
  plan.base_length = plan.begin = begin;
  plan.end = begin + count;
  plan.tokens = numbers(0, count);
  return plan;
}

Result<KvCommit> accept(const KvImportPlan& plan) {
  KvCommit done;
  done.generation = plan.generation + 1;
  done.length = plan.end;
  return done;
}

// Value (plane index, token, head, dim) of a foreign memory in the order that `axes` names, e.g.
// "lpthd"; the test's own arithmetic.
class Foreign {
 public:
  Foreign(const KvGeometry& g, std::string axes) : geometry(g), axes_(std::move(axes)) {
    bytes.assign(2 * g.layers * kCapacity * g.row_bytes() + 2, 0xee);  // two fence bytes
  }
  std::ptrdiff_t stride(char axis) const {
    std::size_t s = size_of(geometry.type);
    for (std::size_t i = axes_.size(); axes_[i - 1] != axis; --i) s *= extent(axes_[i - 1]);
    return static_cast<std::ptrdiff_t>(s);
  }
  StridedMemory memory() {
    // One byte in: foreign memory need not be aligned.
    return StridedMemory::contiguous(geometry, kCapacity, bytes.data() + 1, stride('l'),
                                     stride('p'), {stride('t'), stride('h'), stride('d')});
  }
  std::size_t offset(std::uint32_t l, std::uint32_t p, std::uint32_t t, std::uint32_t h,
                     std::uint32_t d) const {
    return 1 + l * stride('l') + p * stride('p') + t * stride('t') + h * stride('h') +
           d * stride('d');
  }

  KvGeometry geometry;
  std::vector<std::uint8_t> bytes;

 private:
  std::size_t extent(char axis) const {
    switch (axis) {
      case 'l':
        return geometry.layers;
      case 'p':
        return 2;
      case 't':
        return kCapacity;
      case 'h':
        return geometry.kv_heads;
      default:
        return geometry.head_dim;
    }
  }
  std::string axes_;
};

}  // namespace

TEST_CASE("rows go to their places in every order of the axes, and back") {
  for (const ElementType type : {ElementType::kF16, ElementType::kF32}) {
    for (const char* axes : {"lpthd", "lphtd", "lphdt", "plhtd", "tlphd", "dhtpl"}) {
      CAPTURE(axes);
      const KvGeometry g = small_geometry(type);
      Foreign foreign(g, axes);
      StridedSink sink(foreign.memory(), accept);
      REQUIRE(sink.begin(plan_of(5, 20)).ok());
      for (std::uint32_t l = 2; l < 5; ++l) {
        for (const Plane p : {Plane::kKey, Plane::kValue}) {
          REQUIRE(sink.write({l, p, 12, 25}, marked_rows(g, l, p, numbers(12, 13))).ok());
          REQUIRE(sink.write({l, p, 5, 12}, marked_rows(g, l, p, numbers(5, 7))).ok());
        }
      }
      CHECK(sink.commit().value().length == 25);
      const StridedSource source(foreign.memory());
      std::vector<std::uint8_t> expected(foreign.bytes.size(), 0xee);
      for (std::uint32_t l = 0; l < 3; ++l) {
        for (std::uint32_t p = 0; p < 2; ++p) {
          const Plane plane = p == 0 ? Plane::kKey : Plane::kValue;
          std::vector<std::uint8_t> rows(20 * g.row_bytes());
          REQUIRE(source.read({l + 2, plane, 5, 25}, rows).ok());
          CHECK(rows == marked_rows(g, l + 2, plane, numbers(5, 20)));
          for (std::uint32_t t = 5; t < 25; ++t) {
            for (std::uint32_t h = 0; h < g.kv_heads; ++h) {
              for (std::uint32_t d = 0; d < g.head_dim; ++d) {
                const std::uint32_t value = marked_value(t, l + 2, plane, h, d);
                std::memcpy(expected.data() + foreign.offset(l, p, t, h, d), &value, size_of(type));
              }
            }
          }
        }
      }
      CHECK(foreign.bytes == expected);  // nothing outside of the import was touched
    }
  }
}

TEST_CASE("K and V may lie apart and in different orders") {
  const KvGeometry g = small_geometry(ElementType::kF16);
  std::vector<std::vector<std::uint8_t>> planes(6, std::vector<std::uint8_t>(8 * g.row_bytes(), 0));
  StridedMemory memory;
  memory.geometry = g;
  memory.capacity = 8;
  for (auto& plane : planes) memory.planes.push_back(plane.data());
  memory.key = {24, 12, 2};
  memory.value = {2, 96, 16};  // transposed
  StridedSink sink(memory, accept);
  REQUIRE(sink.begin(plan_of(0, 8)).ok());
  for (std::uint32_t l = 2; l < 5; ++l) {
    for (const Plane p : {Plane::kKey, Plane::kValue})
      REQUIRE(sink.write({l, p, 0, 8}, marked_rows(g, l, p, numbers(0, 8))).ok());
  }
  REQUIRE(sink.commit().ok());
  CHECK(planes[2] == marked_rows(g, 3, Plane::kKey, numbers(0, 8)));
  std::uint16_t value;
  std::memcpy(&value, planes[3].data() + 7 * 2 + 1 * 96 + 5 * 16, 2);
  CHECK(value == static_cast<std::uint16_t>(marked_value(7, 3, Plane::kValue, 1, 5)));
}

TEST_CASE("nothing is published before every row is there, and imports only extend") {
  const KvGeometry g = small_geometry(ElementType::kF16);
  Foreign foreign(g, "lpthd");
  int published = 0;
  bool refuse = true;
  StridedSink sink(foreign.memory(), [&](const KvImportPlan& plan) -> Result<KvCommit> {
    ++published;
    if (refuse) return Error(ErrorCode::kMismatch, "the engine went on");
    return accept(plan);
  });
  CHECK(sink.commit().error().code == ErrorCode::kProtocol);
  KvImportPlan replace = plan_of(4, 4);
  replace.base_length = 6;
  CHECK(sink.begin(replace).error().code == ErrorCode::kUnsupported);
  CHECK(sink.begin(plan_of(30, 8)).error().code == ErrorCode::kResourceExhausted);
  REQUIRE(sink.begin(plan_of(3, 2)).ok());
  CHECK(sink.begin(plan_of(3, 2)).error().code == ErrorCode::kProtocol);
  CHECK(sink.commit().error().code == ErrorCode::kIncomplete);
  CHECK(sink.write({2, Plane::kKey, 2, 4}, marked_rows(g, 2, Plane::kKey, numbers(2, 2)))
            .error()
            .code == ErrorCode::kInvalidArgument);
  CHECK(published == 0);
  for (std::uint32_t l = 2; l < 5; ++l) {
    for (const Plane p : {Plane::kKey, Plane::kValue})
      REQUIRE(sink.write({l, p, 3, 5}, marked_rows(g, l, p, numbers(3, 2))).ok());
  }
  CHECK(sink.commit().error().code == ErrorCode::kMismatch);
  refuse = false;
  CHECK(sink.commit().ok());
  CHECK(published == 2);
  REQUIRE(sink.begin(plan_of(5, 1)).ok());
  sink.abort();
  CHECK(sink.commit().error().code == ErrorCode::kProtocol);
  CHECK(published == 2);
}

TEST_CASE("a strided source names what is wrong with a range") {
  const KvGeometry g = small_geometry(ElementType::kF16);
  Foreign foreign(g, "lpthd");
  std::vector<std::uint8_t> rows(2 * g.row_bytes());
  const StridedSource source(foreign.memory());
  CHECK(source.read({2, Plane::kKey, 35, 37}, rows).ok());
  CHECK(source.read({2, Plane::kKey, 36, 38}, rows).error().code == ErrorCode::kInvalidArgument);
  CHECK(source.read({1, Plane::kKey, 0, 2}, rows).error().code == ErrorCode::kInvalidArgument);
  StridedMemory short_of_planes = foreign.memory();
  short_of_planes.planes.pop_back();
  CHECK(StridedSource(short_of_planes).read({2, Plane::kKey, 0, 2}, rows).error().code ==
        ErrorCode::kInvalidArgument);
}
