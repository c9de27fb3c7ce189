// CacheRows finds what KvBlockLayout says.
#include <cstdint>
#include <vector>

#include <catch2/catch.hpp>

#include "kvferry/cache/pool.hpp"

#include "kernels/cache_write.cuh"

using namespace kvferry;

TEST_CASE("rows go to the tokens of KvBlockLayout") {
  CHECK(kernels::kCacheTileTokens == kBlockTokens);
  KvGeometry geometry;
  geometry.first_layer = 4;
  geometry.layers = 3;
  geometry.kv_heads = 5;
  geometry.head_dim = 80;
  const KvBlockLayout layout(geometry);
  std::vector<std::uint8_t> block(layout.block_bytes);
  std::uint8_t* const blocks[] = {block.data(), block.data()};
  const std::uint32_t positions[] = {3 * kBlockTokens + 7, 31};
  const kernels::CacheRows rows = {blocks, positions, layout.tile_offset(5, Plane::kKey, 0),
                                   layout.tile_offset(5, Plane::kValue, 0), 80};
  for (int row = 0; row < 2; ++row) {
    const std::size_t token = positions[row] % kBlockTokens * layout.head_bytes;
    for (std::uint32_t head = 0; head < geometry.kv_heads; ++head) {
      const auto at = [&](std::size_t tile) {
        return static_cast<std::size_t>(
            reinterpret_cast<const std::uint8_t*>(rows.token(row, tile)) - block.data());
      };
      const int h = static_cast<int>(head);
      CHECK(at(rows.key_tile(h)) == layout.tile_offset(5, Plane::kKey, head) + token);
      CHECK(at(rows.value_tile(h)) == layout.tile_offset(5, Plane::kValue, head) + token);
    }
  }
}
