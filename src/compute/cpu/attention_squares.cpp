#include <algorithm>
#include <cassert>
#include <cmath>
#include <limits>
#include <vector>

#include "attention_call.hpp"

namespace kvferry::cpu {
namespace {

// Where one thread works, in floats. Weights of all partitions that are asked for are kept until
// the row's sum over all of its keys is known.
struct Buffers {
  std::size_t rows;        // of a full tile, rounded up to octets
  std::size_t dim;         // head_dim
  std::size_t partitions;  // of the whole sequence
  std::size_t kept;        // the last ones, which hold the tokens that are asked for

  std::size_t tile_floats() const { return kBlockTokens * round_up(dim, 16); }
  std::size_t score_floats() const { return rows * kAttentionPartition; }
  std::size_t thread_floats() const {
    return round_up(
        rows * dim + 2 * tile_floats() + (kept + 1) * score_floats() + 2 * partitions * rows + rows,
        16);
  }
};

// Adds the squares of one tile's rows to sums [kept, kAttentionPartition].
void add_tile(const AttentionCall& call, const QueryTile& tile, std::size_t kv_head,
              const Buffers& b, float* memory, float* sums) {
  float* packed = memory;
  float* tiles = packed + b.rows * b.dim;
  float* scores = tiles + 2 * b.tile_floats();  // kept + 1 times: the others share the first
  float* maximum = scores + (b.kept + 1) * b.score_floats();  // [partitions, rows]
  float* sum = maximum + b.partitions * b.rows;               // [partitions, rows]
  std::uint32_t* visible = reinterpret_cast<std::uint32_t*>(sum + b.partitions * b.rows);
  call.pack_queries(tile, kv_head, packed);
  const std::size_t dropped = b.partitions - b.kept;
  const auto scores_of = [&](std::size_t p) {
    return scores + (p < dropped ? 0 : p - dropped + 1) * b.score_floats();
  };
  std::vector<std::size_t> keys(tile.partitions);
  for (std::size_t p = 0; p < tile.partitions; ++p) {
    PartitionTask task = call.partition_task(tile, kv_head, p, packed, visible);
    task.tile = tiles;
    task.partial_block = reinterpret_cast<std::uint8_t*>(tiles + b.tile_floats());
    task.scores = scores_of(p);
    task.maximum = maximum + p * b.rows;
    task.sum = sum + p * b.rows;
    call.kernels.score_partition(task);
    keys[p] = round_up(task.keys, 16);
  }
  for (std::size_t r = 0; r < tile.count * call.group(); ++r) {
    float largest = -std::numeric_limits<float>::infinity();
    for (std::size_t p = 0; p < tile.partitions; ++p)
      largest = std::max(largest, maximum[p * b.rows + r]);
    float total = 0.0f;
    for (std::size_t p = 0; p < tile.partitions; ++p)
      total += sum[p * b.rows + r] * std::exp2(maximum[p * b.rows + r] - largest);
    for (std::size_t p = dropped; p < tile.partitions; ++p) {
      call.kernels.add_squares(scores_of(p) + r * kAttentionPartition,
                               std::exp2(maximum[p * b.rows + r] - largest) / total, keys[p],
                               sums + (p - dropped) * kAttentionPartition);
    }
  }
}

}  // namespace

void attention_squares(const Kernels& kernels, ThreadPool& pool, const AttentionShape& shape,
                       Span<const AttentionQuery> queries, const float* q,
                       std::uint32_t first_token, Span<float> out, AttentionWorkspace& workspace) {
  assert(shape.kv_heads > 0 && shape.heads % shape.kv_heads == 0 && shape.head_dim > 0);
  std::fill(out.begin(), out.end(), 0.0f);
  if (queries.empty() || out.empty()) return;
  const std::size_t group = shape.heads / shape.kv_heads;
  const std::size_t end = std::size_t{queries.back().position} + 1;
  const std::size_t partitions = round_up(end, kAttentionPartition) / kAttentionPartition;
  const std::size_t first_partition = first_token / kAttentionPartition;
  if (first_partition >= partitions) return;
  const Buffers buffers{round_up(std::min(queries_per_tile(group), queries.size()) * group, kOctet),
                        shape.head_dim, partitions, partitions - first_partition};
  const AttentionCall call{kernels, shape, queries, q};
  const std::vector<QueryTile> tiles = tiles_of(queries, group);
  const std::size_t tasks = tiles.size() * shape.kv_heads;
  const std::size_t sums = buffers.kept * kAttentionPartition;  // of a task
  workspace.tiles.grow(pool.thread_count() * buffers.thread_floats() * sizeof(float));
  workspace.partials.grow(tasks * sums * sizeof(float));
  float* partial = workspace.partials.as<float>();
  pool.parallel_for(tasks, 1, [&](std::size_t begin, std::size_t last, std::size_t thread) {
    float* memory = workspace.tiles.as<float>() + thread * buffers.thread_floats();
    for (std::size_t i = begin; i < last; ++i) {
      std::fill(partial + i * sums, partial + (i + 1) * sums, 0.0f);
      add_tile(call, tiles[i / shape.kv_heads], i % shape.kv_heads, buffers, memory,
               partial + i * sums);
    }
  });
  // In the order of the tasks, whichever thread did them.
  std::size_t seen_from = 0;  // the first query that sees the token
  for (std::size_t t = 0; t < out.size() && first_token + t < end; ++t) {
    while (queries[seen_from].position < first_token + t) ++seen_from;
    const std::size_t at = first_token + t - first_partition * kAttentionPartition;
    float total = 0.0f;
    for (std::size_t i = 0; i < tasks; ++i) total += partial[i * sums + at];
    out[t] = total / static_cast<float>((queries.size() - seen_from) * shape.heads);
  }
}

}  // namespace kvferry::cpu
