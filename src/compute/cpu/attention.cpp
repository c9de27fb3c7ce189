#include "kvferry/compute/cpu/attention.hpp"

#include <algorithm>
#include <cassert>
#include <cmath>
#include <limits>
#include <vector>

#include "attention_call.hpp"

namespace kvferry::cpu {
namespace {

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

struct Call : AttentionCall {
  Call(const AttentionCall& call, float* to, const Buffers& b)
      : AttentionCall(call), out(to), buffers(b) {}

  float* out;
  Buffers buffers;

  // `scratch` follows the packed queries in a thread's memory.
  void attend(const QueryTile& tile, std::size_t kv_head, std::size_t partition,
              const float* packed, float* scratch, const PartialResult& result) const {
    std::uint32_t* visible = reinterpret_cast<std::uint32_t*>(scratch + 2 * buffers.tile_floats() +
                                                              buffers.score_floats());
    PartitionTask task = partition_task(tile, kv_head, partition, packed, visible);
    task.tile = scratch;
    task.partial_block = reinterpret_cast<std::uint8_t*>(scratch + buffers.tile_floats());
    task.scores = scratch + 2 * buffers.tile_floats();
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
  const Buffers buffers{round_up(std::min(queries_per_tile(group), queries.size()) * group, kOctet),
                        shape.head_dim, round_up(shape.head_dim, 16)};
  const Call call({kernels, shape, queries, q}, out, buffers);
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
