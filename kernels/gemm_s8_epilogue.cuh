// What gemm_s8 does with its results.
//
// A lane has pairs of neighbouring columns. row(row, m) prepares a row, columns(column, n, b_scale)
// the pair of `column` (even) and the next; either may lie past the m rows and n columns of C.
// write(row, columns, x) takes the values of kPairs of them at a row, each without its b_scale, and
// stores those that are in C. The whole warp calls it: lane l with row l / 4 of eight, pair p with
// columns 8 p + 2 (l % 4) and the next of 8 kPairs.
//
// Every value is one fused multiply-add: x * b_scale + (bias, residual or 0). is_valid(m, n) says
// whether a C of that shape can be written, in host code.
#pragma once

#include <cstddef>
#include <cstdint>

#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include "kernels/cache_write.cuh"
#include "kernels/finite_half.cuh"
#include "kernels/launch_status.cuh"
#include "kernels/silu.cuh"

namespace kvferry {
namespace kernels {

// A pair of columns.
struct GemmColumns {
  int offset;    // of the first in a row of C
  int count;     // how many are there: 2, 1 where n is odd, 0
  float2 scale;  // of those that are there
  float2 bias;
};
__device__ inline GemmColumns gemm_columns(int column, int n, const float* b_scale,
                                           const float* bias) {
  GemmColumns c;
  c.offset = column;
  c.count = max(0, min(2, n - column));
  c.scale = c.bias = make_float2(0.0f, 0.0f);
  if (c.count > 0) c.scale.x = __ldg(b_scale + column);
  if (c.count > 1) c.scale.y = __ldg(b_scale + column + 1);
  if (bias != nullptr && c.count > 0) c.bias.x = __ldg(bias + column);
  if (bias != nullptr && c.count > 1) c.bias.y = __ldg(bias + column + 1);
  return c;
}
__device__ inline float2 gemm_values(float2 x, const GemmColumns& columns) {
  return make_float2(fmaf(x.x, columns.scale.x, columns.bias.x),
                     fmaf(x.y, columns.scale.y, columns.bias.y));
}

inline bool is_valid_bias(const float* bias) {
  return bias == nullptr || is_aligned(bias, 4);
}

// out = value (+ bias).
struct GemmStore {
  float* out;         // [m, n], 8-byte aligned
  const float* bias;  // [n] or nullptr
  int n;

  static constexpr int kPairs = 1;
  using Row = float*;  // nullptr past the last
  using Columns = GemmColumns;

  __device__ Row row(int row, int m) const {
    return row < m ? out + static_cast<std::size_t>(row) * n : nullptr;
  }
  __device__ Columns columns(int column, int, const float* b_scale) const {
    return gemm_columns(column, n, b_scale, bias);
  }
  __device__ void write(Row row, const Columns (&columns)[1], const float2 (&x)[1]) const {
    if (row == nullptr || columns[0].count == 0) return;
    float* to = row + columns[0].offset;
    const float2 v = gemm_values(x[0], columns[0]);
    if (n % 2 == 0) {
      *reinterpret_cast<float2*>(to) = v;
    } else {
      to[0] = v.x;
      if (columns[0].count == 2) to[1] = v.y;
    }
  }
  bool is_valid(int, int columns) const {
    return n == columns && is_aligned(out, 8) && is_valid_bias(bias);
  }
};

// hidden += value.
struct GemmAddResidual {
  float* hidden;  // [m, n], 8-byte aligned
  int n;

  static constexpr int kPairs = 1;
  using Row = float*;  // nullptr past the last
  using Columns = GemmColumns;

  __device__ Row row(int row, int m) const {
    return row < m ? hidden + static_cast<std::size_t>(row) * n : nullptr;
  }
  __device__ Columns columns(int column, int, const float* b_scale) const {
    return gemm_columns(column, n, b_scale, nullptr);
  }
  __device__ void write(Row row, const Columns (&columns)[1], const float2 (&x)[1]) const {
    if (row == nullptr || columns[0].count == 0) return;
    float* to = row + columns[0].offset;
    const float2 scale = columns[0].scale;
    if (n % 2 == 0) {
      const float2 old = *reinterpret_cast<const float2*>(to);
      *reinterpret_cast<float2*>(to) =
          make_float2(fmaf(x[0].x, scale.x, old.x), fmaf(x[0].y, scale.y, old.y));
    } else {
      to[0] = fmaf(x[0].x, scale.x, to[0]);
      if (columns[0].count == 2) to[1] = fmaf(x[0].y, scale.y, to[1]);
    }
  }
  bool is_valid(int, int columns) const { return n == columns && is_aligned(hidden, 8); }
};

// Four halves v of each lane, v[0] and v[1] in `low`, v[2] and v[3] in `high`, among the four lanes
// that share l / 4: lane t of them gets v[t] of lanes 0 to 3, in their order.
__device__ inline uint2 transpose_halves(unsigned low, unsigned high) {
  const bool is_upper = (threadIdx.x & 2) != 0, is_odd = (threadIdx.x & 1) != 0;
  // a: from lane 0 or 1, b: from lane 2 or 3; both v[0] and v[1] or both v[2] and v[3].
  const unsigned other = __shfl_xor_sync(0xffffffffu, is_upper ? low : high, 2);
  const unsigned a = is_upper ? other : low, b = is_upper ? high : other;
  const unsigned sent = __byte_perm(a, b, is_odd ? 0x5410 : 0x7632);
  const unsigned got = __shfl_xor_sync(0xffffffffu, sent, 1);
  return make_uint2(__byte_perm(a, got, is_odd ? 0x3254 : 0x5410),
                    __byte_perm(b, got, is_odd ? 0x3276 : 0x7610));
}

// out[m, i] = silu(column 2 i) * column 2 i + 1, by finite_half(): the rows of B are gate and up by
// turns. Four outputs next to each other come together in a lane, so that whole sectors are stored.
struct GemmSwiGlu {
  __half* out;  // [m, n / 2], 8-byte aligned
  int n;

  static constexpr int kPairs = 4;
  using Row = __half*;  // nullptr past the last
  using Columns = GemmColumns;

  __device__ Row row(int row, int m) const {
    return row < m ? out + static_cast<std::size_t>(row) * (n / 2) : nullptr;
  }
  __device__ Columns columns(int column, int, const float* b_scale) const {
    return gemm_columns(column, n, b_scale, nullptr);
  }
  __device__ void write(Row row, const Columns (&columns)[4], const float2 (&x)[4]) const {
    unsigned pairs[2];
#pragma unroll
    for (int p = 0; p < 4; p += 2) {
      const float2 first = gemm_values(x[p], columns[p]);
      const float2 second = gemm_values(x[p + 1], columns[p + 1]);
      const __half2 both = __halves2half2(finite_half(__fmul_rn(silu(first.x), first.y)),
                                          finite_half(__fmul_rn(silu(second.x), second.y)));
      pairs[p / 2] = *reinterpret_cast<const unsigned*>(&both);
    }
    const uint2 four = transpose_halves(pairs[0], pairs[1]);
    // Lane t has pair t of the four lanes.
    const int lane = static_cast<int>(threadIdx.x) % 4;
    const int column = columns[0].offset / 2 + 3 * lane, width = n / 2;
    if (row == nullptr || column >= width) return;
    __half* to = row + column;
    if (width % 4 == 0) {
      *reinterpret_cast<uint2*>(to) = four;
    } else {
      const __half* halves = reinterpret_cast<const __half*>(&four);
      for (int i = 0; i < min(4, width - column); ++i) to[i] = halves[i];
    }
  }
  bool is_valid(int, int columns) const {
    return n == columns && n % 2 == 0 && is_aligned(out, 8);
  }
};

// Columns are the heads of Q, then of K, then of V; channels of Q's and K's heads stand in the
// order of their pairs: pair p is columns 2 p and 2 p + 1 of the head. Q and K are rotated and
// stored in the model's order of channels, Q for the attention, K and V into the cache.
struct GemmRopeWrite {
  __half* q;          // [m, heads, head_dim], 4-byte aligned
  const float* bias;  // [n], in the order of the columns, or nullptr
  CacheRows cache;
  RopeRotation rope;
  int heads;
  int kv_heads;

  static constexpr int kPairs = 1;
  struct Row {
    __half* q;              // nullptr past the last
    __half* token;          // of the block's first tile
    const float2* cos_sin;  // of the row's position
  };
  struct Columns {
    GemmColumns of;
    ChannelPair channels;
    int rotation;            // index in cos_sin, -1 for a pair that is not rotated
    bool is_q;               // or of the cache
    std::ptrdiff_t to_head;  // values from the row's q or token to its head
  };

  __device__ Row row(int row, int m) const {
    if (row >= m) return {nullptr, nullptr, nullptr};
    return {q + static_cast<std::size_t>(row) * heads * cache.head_dim, cache.token(row, 0),
            rope.at(__ldg(cache.positions + row))};
  }
  __device__ Columns columns(int column, int n, const float* b_scale) const {
    Columns c;
    c.of = gemm_columns(column, n, b_scale, bias);
    const int head = column / cache.head_dim, first_value = heads + kv_heads;
    const int pair = (column - head * cache.head_dim) / 2;
    const bool is_value = head >= first_value;
    c.channels = rope_pair(pair, rope.rotated, rope.is_split && !is_value);
    c.rotation = is_value || 2 * pair >= rope.rotated ? -1 : pair;
    c.is_q = head < heads;
    if (c.is_q) {
      c.to_head = static_cast<std::ptrdiff_t>(head) * cache.head_dim;
    } else {
      const std::size_t tile =
          is_value ? cache.value_tile(head - first_value) : cache.key_tile(head - heads);
      c.to_head = static_cast<std::ptrdiff_t>(tile / sizeof(__half));
    }
    return c;
  }
  __device__ void write(const Row& row, const Columns (&columns)[1], const float2 (&x)[1]) const {
    const Columns& c = columns[0];
    if (row.q == nullptr || c.of.count == 0) return;
    float2 v = gemm_values(x[0], c.of);
    if (c.rotation >= 0) v = rotate(v, __ldg(row.cos_sin + c.rotation));
    store_pair((c.is_q ? row.q : row.token) + c.to_head, c.channels, v);
  }
  bool is_valid(int, int columns) const {
    return is_valid_rope(rope, cache, heads, kv_heads, columns) && is_aligned(q, 4) &&
           is_valid_bias(bias);
  }
};

}  // namespace kernels
}  // namespace kvferry
