#include "kvferry/compute/cpu/attention.hpp"

#include <algorithm>
#include <cassert>
#include <cmath>
#include <limits>
#include <vector>

#include "kernel_table.hpp"

namespace kvferry::cpu {
namespace {

constexpr std::size_t kOctet = 8;      // rows that the kernels take interleaved
constexpr std::size_t kTileRows = 64;  // rows (queries x heads of a KV head) that share K and V
constexpr std::size_t kBlocksPerPartition = kAttentionPartition / kBlockTokens;

std::size_t round_up(std::size_t n, std::size_t to) {
  return (n + to - 1) / to * to;
}

// Consecutive queries of one sequence.
struct QueryTile {
  std::size_t first;
  std::size_t count;
  std::size_t partitions;     // that any of them sees
  std::size_t partial_slots;  // partitions of all tiles before
};

std::vector<QueryTile> tiles_of(Span<const AttentionQuery> queries, std::size_t group) {
  const std::size_t most = std::max<std::size_t>(1, kTileRows / group);
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

// Where one thread works, and what a partition leaves: all in floats of `memory`.
struct Buffers {
  std::size_t rows;        // of a full tile, rounded up to octets
  std::size_t dim;         // head_dim
  std::size_t padded_dim;  // rounded up to 16

  std::size_t result_floats() const { return rows * (padded_dim + 2); }
  std::size_t q_floats() const { return rows * dim; }
  std::size_t tile_floats() const { return kBlockTokens * padded_dim; }
  std::size_t score_floats() const { return rows * kAttentionPartition; }
  // A running and a partition's result, q, the K or V tile in F32 and as stored, scores, visible.
  std::size_t thread_floats() const {
    return round_up(2 * result_floats() + q_floats() + 2 * tile_floats() + score_floats() + rows,
                    16);
  }
};

struct PartialResult {
  float* values;   // [rows, padded_dim]
  float* maximum;  // [rows]
  float* sum;      // [rows]
};
PartialResult result_at(float* memory, const Buffers& b) {
  return {memory, memory + b.rows * b.padded_dim, memory + b.rows * b.padded_dim + b.rows};
}

// All that does not change during a call.
struct Call {
  const Kernels& kernels;
  const AttentionShape& shape;
  Span<const AttentionQuery> queries;
  const float* q;
  float* out;
  Buffers buffers;

  std::size_t group() const { return shape.heads / shape.kv_heads; }
  const float* q_of(std::size_t query, std::size_t head) const {
    return q + (query * shape.heads + head) * shape.head_dim;
  }

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
      const float* from = q_of(tile.first + r / group(), kv_head * group() + r % group());
      for (std::size_t d = 0; d < shape.head_dim; ++d) to[d * kOctet] = from[d] * scale;
    }
  }

  // `scratch` follows the packed queries in a thread's memory.
  void attend(const QueryTile& tile, std::size_t kv_head, std::size_t partition,
              const float* packed, float* scratch, const PartialResult& result) const {
    const std::size_t rows = tile.count * group();
    PartitionTask task;
    task.type = shape.type;
    task.head_dim = shape.head_dim;
    task.padded_dim = buffers.padded_dim;
    task.rows = rows;
    task.blocks = queries[tile.first].blocks + partition * kBlocksPerPartition;
    const std::size_t head_tile = kBlockTokens * shape.head_dim * size_of(shape.type);
    task.key_offset = shape.key_offset + kv_head * head_tile;
    task.value_offset = shape.value_offset + kv_head * head_tile;
    task.q = packed;
    task.tile = scratch;
    task.partial_block = reinterpret_cast<std::uint8_t*>(scratch + buffers.tile_floats());
    task.scores = scratch + 2 * buffers.tile_floats();
    std::uint32_t* visible = reinterpret_cast<std::uint32_t*>(task.scores + buffers.score_floats());
    task.keys = 0;
    const std::size_t first_key = partition * kAttentionPartition;
    for (std::size_t r = 0; r < rows; ++r) {
      const std::size_t keys = std::size_t{queries[tile.first + r / group()].position} + 1;
      const std::size_t here =
          keys <= first_key ? 0 : std::min<std::size_t>(keys - first_key, kAttentionPartition);
      visible[r] = static_cast<std::uint32_t>(here);
      task.keys = std::max(task.keys, here);
    }
    task.visible = visible;
    task.out = result.values;
    task.maximum = result.maximum;
    task.sum = result.sum;
    kernels.attend_partition(task);
  }

  void start(const QueryTile& tile, const PartialResult& running) const {
    const std::size_t rows = tile.count * group();
    std::fill(running.values, running.values + rows * buffers.padded_dim, 0.0f);
    std::fill(running.maximum, running.maximum + rows, -std::numeric_limits<float>::infinity());
    std::fill(running.sum, running.sum + rows, 0.0f);
  }
  void merge(const QueryTile& tile, const PartialResult& part, const PartialResult& running) const {
    kernels.merge_partition(tile.count * group(), buffers.padded_dim, part.maximum, part.sum,
                            part.values, running.maximum, running.sum, running.values);
  }
  void finish(const QueryTile& tile, std::size_t kv_head, const PartialResult& running) const {
    for (std::size_t r = 0; r < tile.count * group(); ++r) {
      const std::size_t head = kv_head * group() + r % group();
      float* to = out + ((tile.first + r / group()) * shape.heads + head) * shape.head_dim;
      const float* from = running.values + r * buffers.padded_dim;
      const float inverse = 1.0f / running.sum[r];
      for (std::size_t d = 0; d < shape.head_dim; ++d) to[d] = from[d] * inverse;
    }
  }
};

}  // namespace

void attention(const Kernels& kernels, ThreadPool& pool, const AttentionShape& shape,
               Span<const AttentionQuery> queries, const float* q, float* out,
               AttentionWorkspace& workspace) {
  assert(shape.kv_heads > 0 && shape.heads % shape.kv_heads == 0 && shape.head_dim > 0);
  if (queries.empty()) return;
  const std::size_t group = shape.heads / shape.kv_heads;
  const std::size_t per_tile = std::max<std::size_t>(1, kTileRows / group);
  const Buffers buffers{round_up(std::min(per_tile, queries.size()) * group, kOctet),
                        shape.head_dim, round_up(shape.head_dim, 16)};
  const Call call{kernels, shape, queries, q, out, buffers};
  const std::vector<QueryTile> tiles = tiles_of(queries, group);
  workspace.tiles.grow(pool.thread_count() * buffers.thread_floats() * sizeof(float));
  const auto thread_memory = [&](std::size_t thread) {
    return workspace.tiles.as<float>() + thread * buffers.thread_floats();
  };

  const std::size_t tasks = tiles.size() * shape.kv_heads;
  if (pool.thread_count() == 1 || tasks >= 4 * pool.thread_count()) {
    // The last tiles have the most keys: they go first, so that threads end together.
    pool.parallel_for(tasks, 1, [&](std::size_t begin, std::size_t end, std::size_t thread) {
      float* memory = thread_memory(thread);
      const PartialResult running = result_at(memory, buffers);
      const PartialResult part = result_at(memory + buffers.result_floats(), buffers);
      float* packed = memory + 2 * buffers.result_floats();
      for (std::size_t i = begin; i < end; ++i) {
        const QueryTile& tile = tiles[tiles.size() - 1 - i / shape.kv_heads];
        const std::size_t kv_head = i % shape.kv_heads;
        call.pack_queries(tile, kv_head, packed);
        call.start(tile, running);
        for (std::size_t p = 0; p < tile.partitions; ++p) {
          call.attend(tile, kv_head, p, packed, packed + buffers.q_floats(), part);
          call.merge(tile, part, running);
        }
        call.finish(tile, kv_head, running);
      }
    });
    return;
  }

  // Few queries: partitions are work of their own; what they leave is merged in the same order.
  const std::size_t slots = tiles.back().partial_slots + tiles.back().partitions;
  workspace.partials.grow(slots * shape.kv_heads * buffers.result_floats() * sizeof(float));
  const auto partial = [&](std::size_t slot, std::size_t kv_head) {
    return result_at(workspace.partials.as<float>() +
                         (slot * shape.kv_heads + kv_head) * buffers.result_floats(),
                     buffers);
  };
  const std::size_t parts = slots * shape.kv_heads;
  pool.parallel_for(parts, 1, [&](std::size_t begin, std::size_t end, std::size_t thread) {
    float* packed = thread_memory(thread) + 2 * buffers.result_floats();
    for (std::size_t i = begin; i < end; ++i) {
      const std::size_t slot = i / shape.kv_heads, kv_head = i % shape.kv_heads;
      const auto tile =
          std::upper_bound(tiles.begin(), tiles.end(), slot,
                           [](std::size_t s, const QueryTile& t) { return s < t.partial_slots; }) -
          1;
      call.pack_queries(*tile, kv_head, packed);
      call.attend(*tile, kv_head, slot - tile->partial_slots, packed, packed + buffers.q_floats(),
                  partial(slot, kv_head));
    }
  });
  pool.parallel_for(tasks, 16, [&](std::size_t begin, std::size_t end, std::size_t thread) {
    const PartialResult running = result_at(thread_memory(thread), buffers);
    for (std::size_t i = begin; i < end; ++i) {
      const QueryTile& tile = tiles[i / shape.kv_heads];
      const std::size_t kv_head = i % shape.kv_heads;
      call.start(tile, running);
      for (std::size_t p = 0; p < tile.partitions; ++p) {
        call.merge(tile, partial(tile.partial_slots + p, kv_head), running);
      }
      call.finish(tile, kv_head, running);
    }
  });
}

}  // namespace kvferry::cpu
