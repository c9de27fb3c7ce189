// Attention kernels over a vector type V of 16 lanes; see product_kernels.hpp for V.
//
// Scores: lane = key, a chain over head_dim. Values: lane = dimension, a chain over the keys of a
// partition. Neither order depends on how many rows are worked on together.
#pragma once

#include <cstddef>
#include <cstdint>

#include "elementwise_kernels.hpp"
#include "kernel_table.hpp"

namespace kvferry::cpu {

template <typename V>
struct AttentionKernels {
  using Floats = typename V::Floats;

  static constexpr std::size_t kLanes = 16;
  static constexpr std::size_t kKeys = kBlockTokens;
  static constexpr int kRows = 8;  // query rows that lie interleaved

  static void attend_partition(const PartitionTask& task) {
    const std::size_t octets = (task.rows + kRows - 1) / kRows;
    for (std::size_t first = 0; first < task.keys; first += kKeys) {
      load_keys(task, block_tile(task, first, task.key_offset), task.tile);
      for (std::size_t o = 0; o < octets; ++o) {
        const float* q = task.q + o * kRows * task.head_dim;
        float* scores = task.scores + o * kRows * kAttentionPartition + first;
        switch (rows_in(task, o)) {
          case 1:
            score<1>(task, q, scores);
            break;
          case 2:
            score<2>(task, q, scores);
            break;
          case 3:
            score<3>(task, q, scores);
            break;
          case 4:
            score<4>(task, q, scores);
            break;
          default:
            score<kRows>(task, q, scores);
        }
      }
    }
    const std::size_t padded_keys = (task.keys + kKeys - 1) / kKeys * kKeys;
    for (std::size_t r = 0; r < task.rows; ++r) {
      exponentiate(task.scores + r * kAttentionPartition, task.visible[r], padded_keys,
                   task.maximum + r, task.sum + r);
    }
    for (std::size_t i = 0; i < octets * kRows * task.padded_dim; i += kLanes) {
      V::store(task.out + i, V::zero());
    }
    for (std::size_t first = 0; first < task.keys; first += kKeys) {
      const std::size_t keys = task.keys - first < kKeys ? task.keys - first : kKeys;
      load_values(task, block_tile(task, first, task.value_offset), keys);
      for (std::size_t o = 0; o < octets; ++o) {
        const float* p = task.scores + o * kRows * kAttentionPartition + first;
        float* out = task.out + o * kRows * task.padded_dim;
        switch (rows_in(task, o)) {
          case 1:
            add_values<1>(task, p, keys, out);
            break;
          case 2:
            add_values<2>(task, p, keys, out);
            break;
          case 3:
            add_values<3>(task, p, keys, out);
            break;
          case 4:
            add_values<4>(task, p, keys, out);
            break;
          default:
            add_values<kRows>(task, p, keys, out);
        }
      }
    }
  }

  static void merge_partition(std::size_t rows, std::size_t padded_dim, const float* maximum,
                              const float* sum, const float* partial, float* running_maximum,
                              float* running_sum, float* running) {
    for (std::size_t r = 0; r < rows; ++r, partial += padded_dim, running += padded_dim) {
      const float larger = maximum[r] > running_maximum[r] ? maximum[r] : running_maximum[r];
      float factors[kLanes] = {running_maximum[r] - larger, maximum[r] - larger};
      V::store(factors, Elementwise::exp2(V::load(factors)));
      const Floats old_factor = V::set(factors[0]), factor = V::set(factors[1]);
      for (std::size_t i = 0; i < padded_dim; i += kLanes) {
        V::store(running + i,
                 V::fma(V::load(running + i), old_factor, V::mul(V::load(partial + i), factor)));
      }
      running_sum[r] = running_sum[r] * factors[0] + sum[r] * factors[1];
      running_maximum[r] = larger;
    }
  }

 private:
  using Elementwise = ElementwiseKernels<V>;

  static std::size_t rows_in(const PartitionTask& task, std::size_t octet) {
    return task.rows - octet * kRows;
  }

  // The [32, head_dim] tile that holds key `first`. One that is not full is copied and filled up
  // with zeros: rows past the last key may be written by somebody else at this moment.
  static const std::uint8_t* block_tile(const PartitionTask& task, std::size_t first,
                                        std::size_t offset) {
    const std::uint8_t* tile = task.blocks[first / kKeys] + offset;
    if (task.keys - first >= kKeys) return tile;
    const std::size_t row = task.head_dim * (task.type == ElementType::kF32 ? 4 : 2);
    const std::size_t used = (task.keys - first) * row;
    __builtin_memcpy(task.partial_block, tile, used);
    __builtin_memset(task.partial_block + used, 0, kKeys * row - used);
    return task.partial_block;
  }

  static KVFERRY_INLINE float value_at(ElementType type, const std::uint8_t* tile, std::size_t i) {
    if (type == ElementType::kF32) return reinterpret_cast<const float*>(tile)[i];
    const std::uint16_t bits = reinterpret_cast<const std::uint16_t*>(tile)[i];
    return type == ElementType::kF16 ? V::half_to_float(bits) : V::bfloat16_to_float(bits);
  }

  // [32 keys, head_dim] of the cache's type -> [head_dim, 32 keys] F32.
  static void load_keys(const PartitionTask& task, const std::uint8_t* tile, float* out) {
    const std::size_t dim = task.head_dim;
    std::size_t d = 0;
    if (task.type != ElementType::kF32) {
      for (; d + 8 <= dim; d += 8) {
        const std::uint16_t* in = reinterpret_cast<const std::uint16_t*>(tile) + d;
        if (task.type == ElementType::kF16) {
          V::template transpose_halves<true>(in, dim, out + d * kKeys);
        } else {
          V::template transpose_halves<false>(in, dim, out + d * kKeys);
        }
      }
    }
    for (; d < dim; ++d) {
      for (std::size_t k = 0; k < kKeys; ++k) {
        out[d * kKeys + k] = value_at(task.type, tile, k * dim + d);
      }
    }
  }

  // [keys, head_dim] of the cache's type -> [keys, padded_dim] F32.
  static void load_values(const PartitionTask& task, const std::uint8_t* tile, std::size_t keys) {
    const std::size_t dim = task.head_dim;
    float* out = task.tile;
    for (std::size_t k = 0; k < keys; ++k, out += task.padded_dim) {
      std::size_t d = 0;
      for (; d + kLanes <= dim; d += kLanes) {
        const std::size_t i = k * dim + d;
        if (task.type == ElementType::kF32) {
          V::store(out + d, V::load(reinterpret_cast<const float*>(tile) + i));
        } else if (task.type == ElementType::kF16) {
          V::store(out + d, V::load_half(reinterpret_cast<const std::uint16_t*>(tile) + i));
        } else {
          V::store(out + d, V::load_bfloat16(reinterpret_cast<const std::uint16_t*>(tile) + i));
        }
      }
      for (; d < dim; ++d) out[d] = value_at(task.type, tile, k * dim + d);
      for (; d < task.padded_dim; ++d) out[d] = 0.0f;
    }
  }

  template <int kCount>
  static void score(const PartitionTask& task, const float* q, float* scores) {
    Floats low[kCount], high[kCount];
    for (int r = 0; r < kCount; ++r) low[r] = high[r] = V::zero();
    const float* keys = task.tile;
    for (std::size_t d = 0; d < task.head_dim; ++d, keys += kKeys, q += kRows) {
      const Floats k0 = V::load(keys);
      const Floats k1 = V::load(keys + kLanes);
      for (int r = 0; r < kCount; ++r) {
        low[r] = V::fma(V::set(q[r]), k0, low[r]);
        high[r] = V::fma(V::set(q[r]), k1, high[r]);
      }
    }
    for (int r = 0; r < kCount; ++r) {
      V::store(scores + r * kAttentionPartition, low[r]);
      V::store(scores + r * kAttentionPartition + kLanes, high[r]);
    }
  }

  // scores -> 2^(score - maximum), 0 for keys that the row does not see.
  static void exponentiate(float* scores, std::size_t visible, std::size_t padded_keys,
                           float* maximum, float* sum) {
    const float minus_infinity = -__builtin_inff();
    for (std::size_t i = visible; i < padded_keys; ++i) scores[i] = minus_infinity;
    Floats largest = V::set(minus_infinity);
    for (std::size_t i = 0; i < visible; i += kLanes)
      largest = V::max(largest, V::load(scores + i));
    const float m = V::reduce_max(largest);
    *maximum = m;
    const Floats shift = V::set(visible == 0 ? 0.0f : m);
    Floats total = V::zero();
    for (std::size_t i = 0; i < padded_keys; i += kLanes) {
      const Floats p = Elementwise::exp2(V::sub(V::load(scores + i), shift));
      V::store(scores + i, p);
      total = V::add(total, p);
    }
    *sum = V::reduce_add(total);
  }

  template <int kCount>
  static void add_values(const PartitionTask& task, const float* p, std::size_t keys, float* out) {
    for (std::size_t d = 0; d < task.padded_dim; d += kLanes) {
      Floats acc[kCount];
      for (int r = 0; r < kCount; ++r) acc[r] = V::load(out + r * task.padded_dim + d);
      const float* v = task.tile + d;
      for (std::size_t k = 0; k < keys; ++k, v += task.padded_dim) {
        const Floats x = V::load(v);
        for (int r = 0; r < kCount; ++r) {
          acc[r] = V::fma(V::set(p[r * kAttentionPartition + k]), x, acc[r]);
        }
      }
      for (int r = 0; r < kCount; ++r) V::store(out + r * task.padded_dim + d, acc[r]);
    }
  }
};

}  // namespace kvferry::cpu
