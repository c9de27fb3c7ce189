// Attention kernels over a vector type V of 16 lanes; see product_kernels.hpp for V.
//
// Scores: lane = key, a chain over head_dim. Values: lane = dimension, a chain over the keys of a
// partition. Neither order depends on how many rows are worked on together.
#pragma once

#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "elementwise_kernels.hpp"
#include "kernel_table.hpp"

namespace kvferry::cpu {

template <typename V>
struct AttentionKernels {
  using Floats = typename V::Floats;

  static constexpr std::size_t kLanes = 16;
  static constexpr std::size_t kKeys = kBlockTokens;
  static constexpr int kRows = 8;  // query rows that lie interleaved

  static void score_partition(const PartitionTask& task) {
    // With the rows of one octet at most four, as in decoding, a tile is used as it is loaded; with
    // more it is converted once for all of them. The order of every sum is the same.
    const bool direct_keys =
        task.rows <= 4 && task.type != ElementType::kF32 && task.head_dim % kDimensions == 0;
    for (std::size_t first = 0; first < task.keys; first += kKeys) {
      const std::uint8_t* tile = block_tile(task, first, task.key_offset);
      if (!direct_keys) load_keys(task, tile);
      for_rows(task.rows, [&](auto count, std::size_t row) {
        constexpr int kCount = decltype(count)::value;
        const float* q = task.q + row / kRows * kRows * task.head_dim + row % kRows;
        float* scores = task.scores + row * kAttentionPartition + first;
        if (!direct_keys) {
          score<kCount>(task, q, scores);
        } else if (task.type == ElementType::kF16) {
          score_stored<kCount, true>(task, tile, q, scores);
        } else {
          score_stored<kCount, false>(task, tile, q, scores);
        }
      });
    }
    const std::size_t padded_keys = (task.keys + kKeys - 1) / kKeys * kKeys;
    for (std::size_t r = 0; r < task.rows; ++r) {
      exponentiate(task.scores + r * kAttentionPartition, task.visible[r], padded_keys,
                   task.maximum + r, task.sum + r);
    }
  }

  static void attend_partition(const PartitionTask& task) {
    score_partition(task);
    const bool direct_values = task.rows <= 4 && task.head_dim % kLanes == 0;
    for (std::size_t i = 0; i < task.rows * task.padded_dim; i += kLanes) {
      V::store(task.out + i, V::zero());
    }
    for (std::size_t first = 0; first < task.keys; first += kKeys) {
      const std::size_t keys = task.keys - first < kKeys ? task.keys - first : kKeys;
      const std::uint8_t* tile = block_tile(task, first, task.value_offset);
      if (!direct_values) load_values(task, tile, keys);
      for_rows(task.rows, [&](auto count, std::size_t row) {
        constexpr int kCount = decltype(count)::value;
        const float* p = task.scores + row * kAttentionPartition + first;
        float* out = task.out + row * task.padded_dim;
        if (!direct_values) {
          add_values<kCount, ElementType::kF32>(task, task.tile, task.padded_dim, p, keys, out);
        } else if (task.type == ElementType::kF16) {
          add_values<kCount, ElementType::kF16>(task, tile, task.head_dim, p, keys, out);
        } else if (task.type == ElementType::kBF16) {
          add_values<kCount, ElementType::kBF16>(task, tile, task.head_dim, p, keys, out);
        } else {
          add_values<kCount, ElementType::kF32>(task, tile, task.head_dim, p, keys, out);
        }
      });
    }
  }

  static void add_squares(const float* x, float factor, std::size_t count, float* sums) {
    const Floats f = V::set(factor);
    for (std::size_t i = 0; i < count; i += kLanes) {
      const Floats scaled = V::mul(V::load(x + i), f);
      V::store(sums + i, V::fma(scaled, scaled, V::load(sums + i)));
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

  static constexpr std::size_t kDimensions = 8;      // that are transposed at once
  static constexpr int kMaxCount = V::kMaxSums / 2;  // rows that are scored at once

  template <int kValue>
  using Count = std::integral_constant<int, kValue>;

  // body(Count<n>(), first row) for all rows, as many at once as there are registers for.
  template <typename Body>
  static KVFERRY_INLINE void for_rows(std::size_t rows, Body body) {
    std::size_t row = 0;
    for (; row + kMaxCount <= rows; row += kMaxCount) body(Count<kMaxCount>(), row);
    if (kMaxCount > 4 && row + 4 <= rows) {
      body(Count<(kMaxCount > 4 ? 4 : 1)>(), row);
      row += 4;
    }
    if (kMaxCount > 3 && row + 3 <= rows) {
      body(Count<(kMaxCount > 3 ? 3 : 1)>(), row);
      row += 3;
    }
    if (kMaxCount > 2 && row + 2 <= rows) {
      body(Count<(kMaxCount > 2 ? 2 : 1)>(), row);
      row += 2;
    }
    if (row < rows) body(Count<1>(), row);
  }

  template <ElementType kType>
  static KVFERRY_INLINE Floats load_stored(const std::uint8_t* tile, std::size_t i) {
    if (kType == ElementType::kF32) return V::load(reinterpret_cast<const float*>(tile) + i);
    const std::uint16_t* p = reinterpret_cast<const std::uint16_t*>(tile) + i;
    return kType == ElementType::kF16 ? V::load_half(p) : V::load_bfloat16(p);
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
  static void load_keys(const PartitionTask& task, const std::uint8_t* tile) {
    const std::size_t dim = task.head_dim;
    float* out = task.tile;
    std::size_t d = 0;
    if (task.type != ElementType::kF32) {
      for (; d + kDimensions <= dim; d += kDimensions) {
        const std::uint16_t* in = reinterpret_cast<const std::uint16_t*>(tile) + d;
        Floats keys0[kDimensions], keys16[kDimensions];
        if (task.type == ElementType::kF16) {
          V::template transpose_halves<true>(in, dim, keys0, keys16);
        } else {
          V::template transpose_halves<false>(in, dim, keys0, keys16);
        }
        for (std::size_t i = 0; i < kDimensions; ++i) {
          V::store(out + (d + i) * kKeys, keys0[i]);
          V::store(out + (d + i) * kKeys + kLanes, keys16[i]);
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
    if (task.type == ElementType::kF16) {
      load_values<ElementType::kF16>(task, tile, keys);
    } else if (task.type == ElementType::kBF16) {
      load_values<ElementType::kBF16>(task, tile, keys);
    } else {
      load_values<ElementType::kF32>(task, tile, keys);
    }
  }
  template <ElementType kType>
  static void load_values(const PartitionTask& task, const std::uint8_t* tile, std::size_t keys) {
    const std::size_t dim = task.head_dim, padded_dim = task.padded_dim;
    float* out = task.tile;
    for (std::size_t k = 0; k < keys; ++k, out += padded_dim) {
      std::size_t d = 0;
      for (; d + kLanes <= dim; d += kLanes) {
        V::store(out + d, load_stored<kType>(tile, k * dim + d));
      }
      for (; d < dim; ++d) out[d] = value_at(kType, tile, k * dim + d);
      for (; d < padded_dim; ++d) out[d] = 0.0f;
    }
  }

  template <int kCount>
  static void score(const PartitionTask& task, const float* q, float* scores) {
    Floats low[kCount], high[kCount];
    for (int r = 0; r < kCount; ++r) low[r] = high[r] = V::zero();
    const float* keys = task.tile;
    for (std::size_t d = 0; d < task.head_dim; ++d, keys += kKeys, q += kRows) {
      add_scores<kCount>(V::load(keys), V::load(keys + kLanes), q, low, high);
    }
    store_scores<kCount>(low, high, scores);
  }

  // The same from [32 keys, head_dim] of F16 or BF16.
  template <int kCount, bool kF16>
  static void score_stored(const PartitionTask& task, const std::uint8_t* tile, const float* q,
                           float* scores) {
    Floats low[kCount], high[kCount];
    for (int r = 0; r < kCount; ++r) low[r] = high[r] = V::zero();
    const std::uint16_t* in = reinterpret_cast<const std::uint16_t*>(tile);
    for (std::size_t d = 0; d < task.head_dim; d += kDimensions, in += kDimensions) {
      Floats keys0[kDimensions], keys16[kDimensions];
      V::template transpose_halves<kF16>(in, task.head_dim, keys0, keys16);
      for (std::size_t i = 0; i < kDimensions; ++i, q += kRows) {
        add_scores<kCount>(keys0[i], keys16[i], q, low, high);
      }
    }
    store_scores<kCount>(low, high, scores);
  }

  template <int kCount>
  static KVFERRY_INLINE void add_scores(const Floats& k0, const Floats& k1, const float* q,
                                        Floats (&low)[kCount], Floats (&high)[kCount]) {
    for (int r = 0; r < kCount; ++r) {
      low[r] = V::fma(V::set(q[r]), k0, low[r]);
      high[r] = V::fma(V::set(q[r]), k1, high[r]);
    }
  }
  template <int kCount>
  static KVFERRY_INLINE void store_scores(const Floats (&low)[kCount], const Floats (&high)[kCount],
                                          float* scores) {
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

  // out[r] += p[r] * values, for kCount rows; rows of `values` are `stride` apart.
  template <int kCount, ElementType kType, typename Values>
  static void add_values(const PartitionTask& task, const Values* values, std::size_t stride,
                         const float* p, std::size_t keys, float* out) {
    // Several vectors of dimensions at once hide the latency of the multiply-add where rows are
    // few.
    constexpr int kVectors = V::kMaxSums / kCount >= 4 ? 4 : V::kMaxSums / kCount >= 2 ? 2 : 1;
    const std::uint8_t* tile = reinterpret_cast<const std::uint8_t*>(values);
    std::size_t d = 0;
    for (; d + kVectors * kLanes <= task.padded_dim; d += kVectors * kLanes) {
      add_dimensions<kCount, kVectors, kType>(task, tile, stride, d, p, keys, out + d);
    }
    for (; d < task.padded_dim; d += kLanes) {
      add_dimensions<kCount, 1, kType>(task, tile, stride, d, p, keys, out + d);
    }
  }
  template <int kCount, int kVectors, ElementType kType>
  static KVFERRY_INLINE void add_dimensions(const PartitionTask& task, const std::uint8_t* tile,
                                            std::size_t stride, std::size_t d, const float* p,
                                            std::size_t keys, float* out) {
    Floats acc[kCount][kVectors];
    for (int r = 0; r < kCount; ++r) {
      for (int i = 0; i < kVectors; ++i) {
        acc[r][i] = V::load(out + r * task.padded_dim + i * kLanes);
      }
    }
    for (std::size_t k = 0; k < keys; ++k, d += stride) {
      Floats x[kVectors];
      for (int i = 0; i < kVectors; ++i) x[i] = load_stored<kType>(tile, d + i * kLanes);
      for (int r = 0; r < kCount; ++r) {
        const Floats weight = V::set(p[r * kAttentionPartition + k]);
        for (int i = 0; i < kVectors; ++i) acc[r][i] = V::fma(weight, x[i], acc[r][i]);
      }
    }
    for (int r = 0; r < kCount; ++r) {
      for (int i = 0; i < kVectors; ++i) {
        V::store(out + r * task.padded_dim + i * kLanes, acc[r][i]);
      }
    }
  }
};

}  // namespace kvferry::cpu
