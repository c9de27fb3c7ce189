#include "kvferry/cache/pool.hpp"

#include <cmath>
#include <cstdio>
#include <set>
#include <string>

#include <catch2/catch.hpp>
#include <unistd.h>

#include "marked_rows.hpp"

using namespace kvferry;

namespace {

#if defined(__linux__) && !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
// Bytes of this process that are resident.
std::size_t resident_bytes() {
  std::size_t total = 0;
  std::size_t resident = 0;
  std::FILE* file = std::fopen("/proc/self/statm", "r");
  if (file == nullptr || std::fscanf(file, "%zu %zu", &total, &resident) != 2) resident = 0;
  if (file != nullptr) std::fclose(file);
  return resident * static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
}
#endif

}  // namespace

TEST_CASE("a pool's tiles are aligned, disjoint and fill the block") {
  for (const ElementType type : {ElementType::kF16, ElementType::kBF16, ElementType::kF32}) {
    const KvGeometry g = small_geometry(type);
    const auto pool = make_pool(g, 3);
    const KvBlockLayout& layout = pool->layout();
    std::set<std::size_t> offsets;
    for (std::uint32_t l = 2; l < 5; ++l) {
      for (const Plane p : {Plane::kKey, Plane::kValue}) {
        for (std::uint32_t h = 0; h < 2; ++h) offsets.insert(layout.tile_offset(l, p, h));
      }
    }
    REQUIRE(offsets.size() == 12);
    CHECK(*offsets.begin() == 0);
    CHECK(*offsets.rbegin() == 11 * 32 * 6 * size_of(type));
    CHECK(layout.block_bytes == 12 * 32 * 6 * size_of(type));
    CHECK(KvPool::bytes_for(g, 3).value() == 3 * layout.block_bytes);
    const auto blocks = pool->allocate(3).value();
    for (const KvBlock& block : blocks) {
      for (const std::size_t offset : offsets)
        CHECK(reinterpret_cast<std::uintptr_t>(block.data() + offset) % 64 == 0);
    }
  }
}

TEST_CASE("a pool gives all the blocks asked for, or none and the numbers") {
  const auto pool = make_pool(small_geometry(ElementType::kF16), 4);
  CHECK(pool->capacity_tokens() == 128);
  auto three = pool->allocate(3).value();
  CHECK(pool->free_blocks() == 1);
  const auto more = pool->allocate(2);
  REQUIRE(!more.ok());
  CHECK(more.error().code == ErrorCode::kResourceExhausted);
  CHECK(more.error().message.find("2 blocks") != std::string::npos);
  CHECK(more.error().message.find("1 of 4 free") != std::string::npos);
  CHECK(pool->free_blocks() == 1);
  three.clear();
  CHECK(pool->free_blocks() == 4);
  CHECK(pool->allocate(0).value().empty());
}

TEST_CASE("references are counted and the block freed last is used first") {
  const auto pool = make_pool(small_geometry(ElementType::kF16), 4);
  auto a = pool->allocate(1).value();
  auto b = pool->allocate(1).value();
  const std::uint8_t* const b_data = b[0].data();
  KvBlock copy = b[0];
  CHECK(copy.references() == 2);
  b.clear();
  CHECK(copy.references() == 1);
  CHECK(pool->free_blocks() == 2);
  KvBlock& alias = copy;
  copy = alias;  // assigning to itself keeps the block
  CHECK(copy.references() == 1);
  copy = a[0];
  CHECK(pool->free_blocks() == 3);
  CHECK(pool->allocate(1).value()[0].data() == b_data);
}

TEST_CASE("a block keeps its pool alive") {
  auto pool = make_pool(small_geometry(ElementType::kF16), 1);
  auto blocks = pool->allocate(1).value();
  pool.reset();
  blocks[0].data()[0] = 1;
  CHECK(blocks[0].references() == 1);
}

TEST_CASE("unusable geometries and sizes are refused by name") {
  KvGeometry g = small_geometry(ElementType::kF16);
  CHECK(KvPool::bytes_for(g, 0xffffffffu).ok());
  g.kv_heads = 4096;
  g.head_dim = 16;
  g.first_layer = 0;
  g.layers = kMaxLayers;
  CHECK(KvPool::bytes_for(g, 0xffffffffu).error().code == ErrorCode::kInvalidArgument);
  const auto refused = [](const KvGeometry& bad, const char* word) {
    const auto pool = KvPool::create(bad, 1);
    REQUIRE(!pool.ok());
    CHECK(pool.error().code == ErrorCode::kInvalidArgument);
    CHECK(pool.error().message.find(word) != std::string::npos);
  };
  const KvGeometry good = small_geometry(ElementType::kF16);
  refused((g = good, g.layers = 0, g), "layers");
  refused((g = good, g.first_layer = 0xffffffffu, g), "layers");
  refused((g = good, g.kv_heads = 0, g), "kv_heads");
  refused((g = good, g.head_dim = 7, g), "head_dim");
  refused((g = good, g.head_dim = 0, g), "head_dim");
  refused((g = good, g.kv_heads = 65535, g.head_dim = 65534, g), "row");
  refused((g = good, g.type = static_cast<ElementType>(3), g), "element type");
  refused((g = good, g.rope.inverse_frequency.assign(4, 1.0f), g), "RoPE");
  refused((g = good, g.rope.inverse_frequency.assign(1, std::nanf("")), g), "RoPE");
  refused((g = good, g.rope.inverse_frequency.assign(1, 1e9f), g), "RoPE");
}

#if defined(__linux__) && !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
TEST_CASE("memory becomes resident only as blocks are written") {
  KvGeometry g;
  g.layers = 4;
  g.kv_heads = 8;
  g.head_dim = 128;
  const std::size_t before = resident_bytes();
  const auto pool = make_pool(g, 1024);  // 512 KiB a block
  const auto blocks = pool->allocate(1000).value();
  CHECK(resident_bytes() < before + (std::size_t{4} << 20));
  for (std::size_t i = 0; i < 16; ++i) std::memset(blocks[i].data(), 1, pool->layout().block_bytes);
  CHECK(resident_bytes() < before + (std::size_t{16} << 20));
}
#endif
