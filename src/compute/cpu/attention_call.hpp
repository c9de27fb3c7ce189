// How a call of attention is cut: tiles of queries that share a KV head's keys and values, and
// partitions of keys.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "kvferry/compute/cpu/attention.hpp"

#include "kernel_table.hpp"

namespace kvferry::cpu {

constexpr std::size_t kOctet = 8;      // rows that the kernels take interleaved
constexpr std::size_t kTileRows = 64;  // rows (queries x heads of a KV head) that share K and V
constexpr std::size_t kBlocksPerPartition = kAttentionPartition / kBlockTokens;

inline std::size_t round_up(std::size_t n, std::size_t to) {
  return (n + to - 1) / to * to;
}

// Consecutive queries of one sequence.
struct QueryTile {
  std::size_t first;
  std::size_t count;
  std::size_t partitions;     // that any of them sees
  std::size_t partial_slots;  // partitions of all tiles before
};

inline std::size_t queries_per_tile(std::size_t group) {
  return std::max<std::size_t>(1, kTileRows / group);
}

inline std::vector<QueryTile> tiles_of(Span<const AttentionQuery> queries, std::size_t group) {
  const std::size_t most = queries_per_tile(group);
  std::vector<QueryTile> tiles;
  std::size_t slots = 0;
  for (std::size_t i = 0; i < queries.size();) {
    std::size_t n = 1;
    std::uint32_t last = queries[i].position;
    while (n < most && i + n < queries.size() && queries[i + n].blocks == queries[i].blocks) {
      last = std::max(last, queries[i + n].position);
      ++n;
    }
    const std::size_t partitions = last / kAttentionPartition + 1;
    tiles.push_back({i, n, partitions, slots});
    slots += partitions;
    i += n;
  }
  return tiles;
}

// All that does not change during a call.
struct AttentionCall {
  const Kernels& kernels;
  const AttentionShape& shape;
  Span<const AttentionQuery> queries;
  const float* q;  // [queries, heads, head_dim]

  std::size_t group() const { return shape.heads / shape.kv_heads; }

  // Row query * group + head of the tile -> [octet, head_dim, 8], scaled so that 2^x is meant by
  // e^x.
  void pack_queries(const QueryTile& tile, std::size_t kv_head, float* packed) const {
    const float scale = shape.scale * 1.44269504088896341f;
    const std::size_t rows = tile.count * group();
    for (std::size_t r = 0; r < round_up(rows, kOctet); ++r) {
      float* to = packed + r / kOctet * kOctet * shape.head_dim + r % kOctet;
      if (r >= rows) {
        for (std::size_t d = 0; d < shape.head_dim; ++d) to[d * kOctet] = 0.0f;
        continue;
      }
      const float* from =
          q + ((tile.first + r / group()) * shape.heads + kv_head * group() + r % group()) *
                  shape.head_dim;
      for (std::size_t d = 0; d < shape.head_dim; ++d) to[d * kOctet] = from[d] * scale;
    }
  }

  // What a partition is to the kernels. Sets `visible`, [rows]; the caller sets what the kernel
  // works in and writes to.
  PartitionTask partition_task(const QueryTile& tile, std::size_t kv_head, std::size_t partition,
                               const float* packed, std::uint32_t* visible) const {
    PartitionTask task = {};
    task.type = shape.type;
    task.head_dim = shape.head_dim;
    task.padded_dim = round_up(shape.head_dim, 16);
    task.rows = tile.count * group();
    task.blocks = queries[tile.first].blocks + partition * kBlocksPerPartition;
    const std::size_t head_tile = kBlockTokens * shape.head_dim * size_of(shape.type);
    task.key_offset = shape.key_offset + kv_head * head_tile;
    task.value_offset = shape.value_offset + kv_head * head_tile;
    task.q = packed;
    task.visible = visible;
    const std::size_t first_key = partition * kAttentionPartition;
    for (std::size_t r = 0; r < task.rows; ++r) {
      const std::size_t keys = std::size_t{queries[tile.first + r / group()].position} + 1;
      const std::size_t here =
          keys <= first_key ? 0 : std::min<std::size_t>(keys - first_key, kAttentionPartition);
      visible[r] = static_cast<std::uint32_t>(here);
      task.keys = std::max(task.keys, here);
    }
    return task;
  }
};

}  // namespace kvferry::cpu
