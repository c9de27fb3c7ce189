// flash_prefill: causal attention of a prefill chunk with F16 tensor cores. sm_80 and later.
//
// The query heads that share a kv head are rows of one matrix, row m = (chunk row m / group, head
// m % group), so that a chunk of any length fills the tiles. A block takes 64 rows of it against
// the keys from 0 on, four warps of 16 rows each.
//
// The order of a row's arithmetic, which depends on its position only. Keys in tiles of kKeys by
// absolute position, of each in F32:
//   score s    mma over the head's dimensions, 16 at a time; -inf where the key is not seen
//   maximum    M = max(M, s of the tile); decay = 2^((M before - M) * c), c = scale * log2(e)
//   weight w   2^((s - M) * c) rounded to F16
//   sum        four sums, t = 0 to 3, over keys 8 n + 2 t and 8 n + 2 t + 1 of each tile,
//   ascending:
//              sum t = fma(sum t before, decay, theirs)
//   values     times decay, then mma over the tile's keys, 16 at a time
// At the end out = values * (1 / ((sum 0 + sum 1) + (sum 2 + sum 3))), rounded to F16. A tile that
// a row sees nothing of changes nothing of it: decay is 1 and every weight 0.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>

#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include "kernels/attention.cuh"
#include "kernels/cache_row.cuh"
#include "kernels/half2_bits.cuh"
#include "kernels/ptx.cuh"
#include "kernels/shared_storage.cuh"

namespace kvferry {
namespace kernels {

template <int kDim>
struct FlashPrefillTraits {
  static_assert(kDim == 64 || kDim == 128, "head_dim");
  static constexpr int kHeadDim = kDim;
  static constexpr int kThreads = 128;
  static constexpr int kBlocks = 3;  // on a multiprocessor
  static constexpr int kRows = 64;
  static constexpr int kKeys = 4096 / kDim;
  static constexpr int kChunks = kDim / 8;  // 16 bytes of a row

  // Chunk c of a row lies at c ^ (row % 8): eight rows of a chunk are on different banks.
  struct Tile {
    uint4 rows[kKeys][kChunks];
  };
  struct Shared {
    Tile keys[2];
    Tile values[2];
  };
};

// Starts copying a tile's keys and values. Rows from key_end on become zeros.
template <typename Traits>
__device__ void load_tile(const FlashPrefillParams& params, std::uint32_t kv_head,
                          std::uint32_t tile, std::uint32_t key_end, typename Traits::Tile& keys,
                          typename Traits::Tile& values) {
  constexpr int kRowsAtOnce = Traits::kThreads / Traits::kChunks;
  const int chunk = static_cast<int>(threadIdx.x) % Traits::kChunks;
#pragma unroll
  for (int i = 0; i < Traits::kKeys / kRowsAtOnce; ++i) {
    const int row = static_cast<int>(threadIdx.x) / Traits::kChunks + i * kRowsAtOnce;
    const std::uint32_t key = tile * Traits::kKeys + static_cast<std::uint32_t>(row);
    const bool is_valid = key < key_end;
    const std::uint32_t from = is_valid ? key : key_end - 1;
    const int to = chunk ^ (row % 8);
    ptx::cp_async_16(
        &keys.rows[row][to],
        cache_row<Traits::kHeadDim>(params.blocks, params.shape.key_offset, kv_head, from) + chunk,
        is_valid);
    ptx::cp_async_16(
        &values.rows[row][to],
        cache_row<Traits::kHeadDim>(params.blocks, params.shape.value_offset, kv_head, from) +
            chunk,
        is_valid);
  }
  ptx::cp_async_commit();
}

// What a warp keeps of its 16 rows. A lane has rows g and g + 8, g = lane / 4, of each the
// elements of an mma's result.
template <typename Traits>
struct FlashState {
  float values[Traits::kHeadDim / 8][4];
  float maximum[2];
  float sum[2];  // of this lane's keys
};

// scores = q keys^T.
template <typename Traits>
__device__ void multiply_keys(const std::uint32_t (&q)[Traits::kHeadDim / 16][4],
                              const typename Traits::Tile& keys,
                              float (&scores)[Traits::kKeys / 8][4]) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int row = lane / 16 * 8 + lane % 8;
#pragma unroll
  for (int n = 0; n < Traits::kKeys / 8; ++n) {
#pragma unroll
    for (int i = 0; i < 4; ++i) scores[n][i] = 0.0f;
  }
#pragma unroll
  for (int k = 0; k < Traits::kHeadDim / 16; ++k) {
    const int chunk = (2 * k + lane / 8 % 2) ^ (lane % 8);
#pragma unroll
    for (int n = 0; n < Traits::kKeys / 8; n += 2) {
      std::uint32_t tiles[4];
      ptx::ldmatrix_x4(tiles, &keys.rows[8 * n + row][chunk]);
      const std::uint32_t first[2] = {tiles[0], tiles[1]};
      const std::uint32_t second[2] = {tiles[2], tiles[3]};
      ptx::mma_f16(scores[n], q[k], first);
      ptx::mma_f16(scores[n + 1], q[k], second);
    }
  }
}

// Makes weights of the scores of lane's row g + 8 half, as the left operand of multiply_values().
template <typename Traits>
__device__ void update_softmax(const float (&scores)[Traits::kKeys / 8][4], int half, float factor,
                               FlashState<Traits>& state,
                               std::uint32_t (&weights)[Traits::kKeys / 8][2]) {
  float maximum = state.maximum[half];
#pragma unroll
  for (int n = 0; n < Traits::kKeys / 8; ++n) {
    maximum = fmaxf(maximum, fmaxf(scores[n][2 * half], scores[n][2 * half + 1]));
  }
  maximum = fmaxf(maximum, __shfl_xor_sync(0xffffffffu, maximum, 1));
  maximum = fmaxf(maximum, __shfl_xor_sync(0xffffffffu, maximum, 2));
  const float decay = ptx::exp2_approx((state.maximum[half] - maximum) * factor);
  state.maximum[half] = maximum;
  float sum = 0.0f;
#pragma unroll
  for (int n = 0; n < Traits::kKeys / 8; ++n) {
    const float low = ptx::exp2_approx((scores[n][2 * half] - maximum) * factor);
    const float high = ptx::exp2_approx((scores[n][2 * half + 1] - maximum) * factor);
    const __half2 weight = __floats2half2_rn(low, high);
    weights[n][half] = bits_of(weight);
    // Of what the values are weighted with: the result is then a true mean of them.
    sum += __low2float(weight);
    sum += __high2float(weight);
  }
  state.sum[half] = fmaf(state.sum[half], decay, sum);
#pragma unroll
  for (int n = 0; n < Traits::kHeadDim / 8; ++n) {
    state.values[n][2 * half] *= decay;
    state.values[n][2 * half + 1] *= decay;
  }
}

// sums += weights values.
template <typename Traits>
__device__ void multiply_values(const std::uint32_t (&weights)[Traits::kKeys / 8][2],
                                const typename Traits::Tile& values,
                                float (&sums)[Traits::kHeadDim / 8][4]) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int row = lane % 16;
#pragma unroll
  for (int k = 0; k < Traits::kKeys / 16; ++k) {
    const std::uint32_t left[4] = {weights[2 * k][0], weights[2 * k][1], weights[2 * k + 1][0],
                                   weights[2 * k + 1][1]};
#pragma unroll
    for (int n = 0; n < Traits::kHeadDim / 8; n += 2) {
      const int chunk = (n + lane / 16) ^ (lane % 8);
      std::uint32_t tiles[4];
      ptx::ldmatrix_x4_transposed(tiles, &values.rows[16 * k + row][chunk]);
      const std::uint32_t first[2] = {tiles[0], tiles[1]};
      const std::uint32_t second[2] = {tiles[2], tiles[3]};
      ptx::mma_f16(sums[n], left, first);
      ptx::mma_f16(sums[n + 1], left, second);
    }
  }
}

// Row `row` of a kv head's matrix, from its first element on, in q and out.
template <typename Traits>
__device__ std::size_t row_offset(const AttentionShape& shape, std::uint32_t row) {
  const std::uint32_t group = shape.heads / shape.kv_heads;
  const std::size_t head =
      static_cast<std::size_t>(row / group) * shape.heads + blockIdx.y * group + row % group;
  return head * Traits::kHeadDim;
}

// Stores a lane's two rows. Rows from `total` on are none.
template <typename Traits>
__device__ void store_rows(const FlashPrefillParams& params, std::uint32_t row, std::uint32_t total,
                           const FlashState<Traits>& state) {
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    float sum = state.sum[half];
    sum += __shfl_xor_sync(0xffffffffu, sum, 1);
    sum += __shfl_xor_sync(0xffffffffu, sum, 2);
    const float inverse = 1.0f / sum;
    if (row + 8 * half < total) {
      __half* const out =
          params.out + row_offset<Traits>(params.shape, row + 8 * half) + 2 * (threadIdx.x % 4);
#pragma unroll
      for (int n = 0; n < Traits::kHeadDim / 8; ++n) {
        // + 0 makes -0 into 0, which a tile that the row does not see may or may not have done.
        *reinterpret_cast<__half2*>(out + 8 * n) =
            __floats2half2_rn(fmaf(state.values[n][2 * half], inverse, 0.0f),
                              fmaf(state.values[n][2 * half + 1], inverse, 0.0f));
      }
    }
  }
}

template <int kHeadDim>
__global__ void __launch_bounds__(FlashPrefillTraits<kHeadDim>::kThreads,
                                  FlashPrefillTraits<kHeadDim>::kBlocks)
    flash_prefill(FlashPrefillParams params) {
  using Traits = FlashPrefillTraits<kHeadDim>;
  typename Traits::Shared& shared = shared_storage<typename Traits::Shared>();
  const AttentionShape& shape = params.shape;
  const std::uint32_t kv_head = blockIdx.y;
  const std::uint32_t group = shape.heads / shape.kv_heads;
  const std::uint32_t total = params.rows * group;
  // The last rows have the most keys: they go first, so that multiprocessors end together.
  const std::uint32_t first_row = (gridDim.x - 1 - blockIdx.x) * Traits::kRows;
  const std::uint32_t last_row = min(first_row + Traits::kRows, total) - 1;
  const std::uint32_t first_position = params.begin + first_row / group;
  const std::uint32_t key_end = params.begin + last_row / group + 1;
  const std::uint32_t tiles = (key_end - 1) / Traits::kKeys + 1;
  load_tile<Traits>(params, kv_head, 0, key_end, shared.keys[0], shared.values[0]);

  const std::uint32_t row = first_row + threadIdx.x / 32 * 16 + threadIdx.x % 32 / 4;
  const std::uint32_t pair = threadIdx.x % 4;  // elements 2 pair and 2 pair + 1 of eight
  std::uint32_t position[2];
  std::uint32_t q[kHeadDim / 16][4];
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const std::uint32_t from = min(row + 8 * half, last_row);
    position[half] = params.begin + from / group;
    const __half* const row_q = params.q + row_offset<Traits>(shape, from) + 2 * pair;
#pragma unroll
    for (int k = 0; k < kHeadDim / 16; ++k) {
      q[k][half] = bits_of(*reinterpret_cast<const __half2*>(row_q + 16 * k));
      q[k][2 + half] = bits_of(*reinterpret_cast<const __half2*>(row_q + 16 * k + 8));
    }
  }

  FlashState<Traits> state;
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    state.maximum[half] = -INFINITY;
    state.sum[half] = 0.0f;
  }
#pragma unroll
  for (int n = 0; n < kHeadDim / 8; ++n) {
#pragma unroll
    for (int i = 0; i < 4; ++i) state.values[n][i] = 0.0f;
  }
  const float factor = shape.scale * kLog2E;

  for (std::uint32_t tile = 0; tile < tiles; ++tile) {
    ptx::cp_async_wait<0>();
    __syncthreads();  // the tile is there, and nobody reads the one before it any more
    if (tile + 1 < tiles) {
      load_tile<Traits>(params, kv_head, tile + 1, key_end, shared.keys[(tile + 1) % 2],
                        shared.values[(tile + 1) % 2]);
    }
    float scores[Traits::kKeys / 8][4];
    multiply_keys<Traits>(q, shared.keys[tile % 2], scores);
    if (tile * Traits::kKeys + (Traits::kKeys - 1) > first_position) {
#pragma unroll
      for (int n = 0; n < Traits::kKeys / 8; ++n) {
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          const std::uint32_t key = tile * Traits::kKeys + 8 * n + 2 * pair + i % 2;
          if (key > position[i / 2]) scores[n][i] = -INFINITY;
        }
      }
    }
    std::uint32_t weights[Traits::kKeys / 8][2];
    update_softmax<Traits>(scores, 0, factor, state, weights);
    update_softmax<Traits>(scores, 1, factor, state, weights);
    multiply_values<Traits>(weights, shared.values[tile % 2], state.values);
  }
  store_rows(params, row, total, state);
}

}  // namespace kernels
}  // namespace kvferry
