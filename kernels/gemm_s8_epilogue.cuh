// What gemm_s8 does with its results.
//
// columns(column, n, b_scale) prepares a pair of columns, `column` (even) and the next, of a C with
// n columns; write(row, columns, x) then takes their values at a row, each without its b_scale.
// Every value is one fused multiply-add: x * b_scale + (bias, residual or 0).
// is_valid(m, n) says whether a C of that shape can be written, in host code.
#pragma once

#include <cstddef>
#include <cstdint>

#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include "kernels/cache_write.cuh"
#include "kernels/launch_status.cuh"
#include "kernels/silu.cuh"

namespace kvferry {
namespace kernels {

// A pair of columns where the second may be missing: n is odd.
struct GemmColumns {
  std::size_t offset;  // of the first in a row of C
  float2 scale;
  float2 bias;
  bool has_second;
};
__device__ inline GemmColumns gemm_columns(int column, int n, const float* b_scale,
                                           const float* bias) {
  GemmColumns c;
  c.offset = static_cast<std::size_t>(column);
  c.has_second = column + 1 < n;
  const int second = c.has_second ? column + 1 : column;
  c.scale = make_float2(__ldg(b_scale + column), __ldg(b_scale + second));
  c.bias = bias == nullptr ? make_float2(0.0f, 0.0f)
                           : make_float2(__ldg(bias + column), __ldg(bias + second));
  return c;
}
__device__ inline float2 gemm_values(float2 x, const GemmColumns& columns) {
  return make_float2(fmaf(x.x, columns.scale.x, columns.bias.x),
                     fmaf(x.y, columns.scale.y, columns.bias.y));
}

// out = value (+ bias).
struct GemmStore {
  float* out;         // [m, n], 8-byte aligned
  const float* bias;  // [n] or nullptr
  int n;

  using Columns = GemmColumns;
  __device__ Columns columns(int column, int, const float* b_scale) const {
    return gemm_columns(column, n, b_scale, bias);
  }
  __device__ void write(int row, const Columns& columns, float2 x) const {
    float* to = out + static_cast<std::size_t>(row) * n + columns.offset;
    const float2 v = gemm_values(x, columns);
    if (n % 2 == 0) {
      *reinterpret_cast<float2*>(to) = v;
    } else {
      to[0] = v.x;
      if (columns.has_second) to[1] = v.y;
    }
  }
  bool is_valid(int, int columns) const { return n == columns && is_aligned(out, 8); }
};

// hidden += value.
struct GemmAddResidual {
  float* hidden;  // [m, n], 8-byte aligned
  int n;

  using Columns = GemmColumns;
  __device__ Columns columns(int column, int, const float* b_scale) const {
    return gemm_columns(column, n, b_scale, nullptr);
  }
  __device__ void write(int row, const Columns& columns, float2 x) const {
    float* to = hidden + static_cast<std::size_t>(row) * n + columns.offset;
    if (n % 2 == 0) {
      const float2 old = *reinterpret_cast<const float2*>(to);
      *reinterpret_cast<float2*>(to) =
          make_float2(fmaf(x.x, columns.scale.x, old.x), fmaf(x.y, columns.scale.y, old.y));
    } else {
      to[0] = fmaf(x.x, columns.scale.x, to[0]);
      if (columns.has_second) to[1] = fmaf(x.y, columns.scale.y, to[1]);
    }
  }
  bool is_valid(int, int columns) const { return n == columns && is_aligned(hidden, 8); }
};

// out[m, i] = silu(column 2 i) * column 2 i + 1: the rows of B are gate and up by turns.
struct GemmSwiGlu {
  __half* out;  // [m, n / 2]
  int n;

  using Columns = GemmColumns;
  __device__ Columns columns(int column, int, const float* b_scale) const {
    return gemm_columns(column, n, b_scale, nullptr);
  }
  __device__ void write(int row, const Columns& columns, float2 x) const {
    const float2 v = gemm_values(x, columns);
    out[(static_cast<std::size_t>(row) * n + columns.offset) / 2] =
        __float2half_rn(__fmul_rn(silu(v.x), v.y));
  }
  bool is_valid(int, int columns) const { return n == columns && n % 2 == 0 && is_aligned(out, 2); }
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

  struct Columns {
    GemmColumns of;
    ChannelPair channels;
    int pair;
    int head;  // among Q's, K's or V's
    int kind;  // 0 Q, 1 K, 2 V
  };
  __device__ Columns columns(int column, int n, const float* b_scale) const {
    Columns c;
    c.of = gemm_columns(column, n, b_scale, bias);
    const int head_dim = cache.head_dim;
    const int head = column / head_dim;
    c.pair = (column - head * head_dim) / 2;
    c.kind = head < heads ? 0 : head < heads + kv_heads ? 1 : 2;
    c.head = head - (c.kind == 0 ? 0 : c.kind == 1 ? heads : heads + kv_heads);
    c.channels = rope_pair(c.pair, rope.rotated, rope.is_split && c.kind != 2);
    return c;
  }
  __device__ void write(int row, const Columns& columns, float2 x) const {
    float2 v = gemm_values(x, columns.of);
    if (columns.kind == 2) {
      store_pair(cache.value(row, columns.head), columns.channels, v);
      return;
    }
    v = rope.rotate(__ldg(cache.positions + row), columns.pair, v);
    __half* const head =
        columns.kind == 1
            ? cache.key(row, columns.head)
            : q + (static_cast<std::size_t>(row) * heads + columns.head) * cache.head_dim;
    store_pair(head, columns.channels, v);
  }
  bool is_valid(int, int columns) const {
    return is_valid_rope(rope, cache, heads, kv_heads, columns) && is_aligned(q, 4);
  }
};

}  // namespace kernels
}  // namespace kvferry
