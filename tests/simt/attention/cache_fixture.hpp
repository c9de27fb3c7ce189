// A KV cache in device memory: blocks in an order of their own, NaN wherever no token is.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <numeric>
#include <random>
#include <vector>

#include "kvferry/cache/pool.hpp"

#include "device_array.hpp"
#include "half_arithmetic.hpp"
#include "kernels/attention.cuh"

namespace kvferry::test {

using kvferry_test::DeviceArray;

static_assert(kernels::kCacheBlockTokens == kBlockTokens, "one size of block");

struct Heads {
  std::uint32_t group;  // query heads of a kv head
  std::uint32_t kv_heads;
  std::uint32_t head_dim;

  std::uint32_t heads() const { return group * kv_heads; }
  std::size_t row() const { return std::size_t{heads()} * head_dim; }
};

// Keys and values of one sequence, [kv_heads, tokens, head_dim], F16 numbers.
struct Tokens {
  std::uint32_t count = 0;
  std::vector<double> keys;
  std::vector<double> values;

  Tokens() = default;
  Tokens(const Heads& heads, std::uint32_t tokens)
      : count(tokens),
        keys(std::size_t{tokens} * heads.kv_heads * heads.head_dim),
        values(keys.size()) {}
  const double* key(const Heads& heads, std::uint32_t kv_head, std::uint32_t token) const {
    return &keys[(std::size_t{kv_head} * count + token) * heads.head_dim];
  }
  const double* value(const Heads& heads, std::uint32_t kv_head, std::uint32_t token) const {
    return &values[(std::size_t{kv_head} * count + token) * heads.head_dim];
  }
};

using Random = std::mt19937;

// The same for every standard library.
inline double uniform(Random& random, double scale) {
  return scale * (static_cast<double>(random()) / 2147483648.0 - 1.0);
}
inline std::vector<double> random_halves(Random& random, std::size_t count, double scale) {
  std::vector<double> result(count);
  for (double& v : result) v = rounded_to_half(uniform(random, scale));
  return result;
}
inline Tokens random_tokens(Random& random, const Heads& heads, std::uint32_t count,
                            double key_scale = 2.0, double value_scale = 1.0) {
  Tokens tokens(heads, count);
  tokens.keys = random_halves(random, tokens.keys.size(), key_scale);
  tokens.values = random_halves(random, tokens.values.size(), value_scale);
  return tokens;
}
inline std::vector<std::uint16_t> to_bits(const std::vector<double>& halves) {
  std::vector<std::uint16_t> result(halves.size());
  std::transform(halves.begin(), halves.end(), result.begin(), half_bits);
  return result;
}

// The middle layer of a cache of three.
class DeviceCache {
 public:
  DeviceCache(const Heads& heads, const std::vector<Tokens>& sequences, std::uint32_t table_blocks,
              Random& random)
      : layout_(geometry(heads)),
        pool_(layout_.block_bytes * (count_blocks(sequences) + 1)),
        table_(place(heads, sequences, table_blocks, random)) {}

  kernels::AttentionShape shape(const Heads& heads) const {
    return {heads.heads(),
            heads.kv_heads,
            heads.head_dim,
            static_cast<float>(1.0 / std::sqrt(static_cast<double>(heads.head_dim))),
            layout_.tile_offset(1, Plane::kKey, 0),
            layout_.tile_offset(1, Plane::kValue, 0)};
  }
  const kernels::CacheBlock* table() const { return table_.data(); }

 private:
  static KvGeometry geometry(const Heads& heads) {
    KvGeometry g;
    g.layers = 3;
    g.kv_heads = heads.kv_heads;
    g.head_dim = heads.head_dim;
    return g;
  }
  static std::size_t count_blocks(const std::vector<Tokens>& sequences) {
    std::size_t blocks = 0;
    for (const Tokens& s : sequences) blocks += KvPool::blocks_for(s.count);
    return blocks;
  }

  // Fills the pool; [sequences, table_blocks] addresses, of a faulting page where a sequence has no
  // block.
  std::vector<kernels::CacheBlock> place(const Heads& heads, const std::vector<Tokens>& sequences,
                                         std::uint32_t table_blocks, Random& random) {
    std::vector<std::size_t> order(count_blocks(sequences) + 1);
    std::iota(order.begin(), order.end(), std::size_t{0});
    for (std::size_t i = order.size() - 1; i > 0; --i)
      std::swap(order[i], order[random() % (i + 1)]);
    std::vector<std::uint8_t> host(pool_.size(), 0xff);
    std::vector<kernels::CacheBlock> table(sequences.size() * table_blocks,
                                           reinterpret_cast<kernels::CacheBlock>(16));
    std::size_t next = 0;
    for (std::size_t s = 0; s < sequences.size(); ++s) {
      for (std::uint32_t first = 0; first < sequences[s].count; first += kBlockTokens) {
        const std::size_t offset = order[next++] * layout_.block_bytes;
        table[s * table_blocks + first / kBlockTokens] = pool_.data() + offset;
        write_block(heads, sequences[s], first, &host[offset]);
      }
    }
    REQUIRE(cudaMemcpy(pool_.data(), host.data(), host.size(), cudaMemcpyHostToDevice) ==
            cudaSuccess);
    return table;
  }
  void write_block(const Heads& heads, const Tokens& tokens, std::uint32_t first,
                   std::uint8_t* block) const {
    const std::uint32_t end = std::min(first + kBlockTokens, tokens.count);
    for (std::uint32_t h = 0; h < heads.kv_heads; ++h) {
      for (std::uint32_t t = first; t < end; ++t) {
        for (const Plane plane : {Plane::kKey, Plane::kValue}) {
          const double* from =
              plane == Plane::kKey ? tokens.key(heads, h, t) : tokens.value(heads, h, t);
          std::uint8_t* to =
              block + layout_.tile_offset(1, plane, h) + (t - first) * layout_.head_bytes;
          for (std::uint32_t d = 0; d < heads.head_dim; ++d) {
            const std::uint16_t bits = half_bits(from[d]);
            std::memcpy(to + 2 * d, &bits, 2);
          }
        }
      }
    }
  }

  KvBlockLayout layout_;
  DeviceArray<std::uint8_t> pool_;
  DeviceArray<kernels::CacheBlock> table_;
};

}  // namespace kvferry::test
