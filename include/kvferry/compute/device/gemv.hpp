// What the matrix-vector products of path::MaxwellFp16 take: plain data, C++14, no CUDA. All
// pointers are to device memory; strides and sizes are in elements.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kvferry/compute/device/octet_layout.hpp"

#if defined(__CUDACC__)
#define KVFERRY_HOST_DEVICE __host__ __device__
#else
#define KVFERRY_HOST_DEVICE
#endif

namespace kvferry {
namespace kernels {

constexpr int kGemvMaxBatch = 4;  // vectors of one product

struct GemvMatrix {
  octet::Format format;
  const octet::Part* quants;  // [octets, groups, parts, 8], 16-byte aligned
  const void* scales;         // [octets, groups, 8] of the format's scale, 4-byte aligned; not F16
  int rows;
  int columns;         // a multiple of 32
  int input_exponent;  // of OctetMatrix: at most 15
  float multiplier;    // of all weights, a power of two
};

// Inputs: where a product's vectors come from. Rows are aligned to 16 bytes, strides a multiple
// of 4.

// As they are: O and down.
struct PlainInput {
  const float* x;  // [batch, stride]
  int stride;
};
// x / sqrt(mean(x^2) + epsilon) * weight: Q, K and V, gate and up, logits.
struct NormInput {
  const float* x;  // [batch, stride]
  int stride;
  const float* weight;  // [columns]
  float epsilon;
};

// Outputs: what becomes of a product's results.

// out = value (+ bias).
struct StoreOutput {
  float* out;  // [batch, stride]
  int stride;
  const float* bias;  // [rows] or nullptr
};
// hidden += value.
struct AddResidual {
  float* hidden;  // [batch, stride]
  int stride;
};
// out[i] = silu(value[2 i]) * value[2 i + 1]: the rows are gate's and up's by turns.
struct SwiGlu {
  float* out;  // [batch, stride]
  int stride;
};

// One layer of the caches of a batch's sequences, F16, in blocks of 32 tokens: at a block's base
// plus an offset begins the tile of the first head, [32, head_dim].
struct KvCacheLayer {
  std::uint8_t* const* blocks;  // [batch, blocks_stride]: block i holds tokens 32 i to 32 i + 31
  int blocks_stride;
  const std::int32_t* positions;  // [batch]: the token that is written
  std::size_t k_offset;           // bytes
  std::size_t v_offset;
  std::size_t tile_bytes;  // from one head's tile to the next
};

// Q, K and V of one token each: the rows are those of Q, K and V, each head's in the order of
// paired_row(). Q and K are rotated by (a cos - b sin, b cos + a sin); Q goes to `q`, K and V,
// rounded to F16 and cut off at its largest number, into the caches.
struct RopeAppend {
  float* q;  // [batch, q_stride] with [heads, head_dim] in a row
  int q_stride;
  const float* bias;    // [rows] in the order of the heads' values, or nullptr
  const float* angles;  // [positions, pairs, 2]: cosine and sine, for all that the cache can hold
  int pairs;            // that are rotated, at most head_dim / 2
  bool is_split;        // values i and i + pairs are a pair, not 2 i and 2 i + 1
  int heads;
  int kv_heads;
  int head_bits;  // log2 of head_dim, 6 or 7
  KvCacheLayer cache;
};

// The value of a head that row `row` of it holds in a matrix for RopeAppend: pairs lie next to each
// other.
KVFERRY_HOST_DEVICE inline int paired_row(int row, int pairs, bool is_split) {
  return is_split && row < 2 * pairs ? row / 2 + row % 2 * pairs : row;
}

// Rows of Q, K and V whose heads are still to be normed: x / sqrt(mean(x^2) + epsilon) * norm.
struct HeadRows {
  const float* x;  // [batch, stride] with [heads + 2 kv_heads, head_dim] in a row, values in order
  int stride;
  const float* q_norm;  // [head_dim]
  const float* k_norm;  // [head_dim]
  float epsilon;
};

// Of the device that a product runs on.
struct GemvDevice {
  int multiprocessors;
  std::size_t shared_bytes;  // of one multiprocessor
};

}  // namespace kernels
}  // namespace kvferry
