// token_attention: how much a chunk's last rows look at each of its tokens. For sm_53 and later.
//
// Pairs (query, head of the group) of a kv head are numbered query-major and taken kPairs at a
// time: a slice. Three kernels:
//   softmax_sums           of each pair and partition of keys: maximum and sum
//   squared_weights        of each slice and kv head: the sum over its pairs of a^2 of every token
//   mean_squared_weights   of all slices and kv heads
// The order of the arithmetic, in F32 (scores as in key_scores.cuh, -inf where the key is not
// seen):
//   partition   M its largest score; lane l adds 2^(score - M) of tokens 4 l to 4 l + 3, ascending;
//               the lanes are added as a butterfly, 16 apart first; 0 where the query sees nothing
//   pair        N the largest of the M; sum = fma(partition's sum, 2^(M - N), sum), ascending from
//               0; inverse = 1 / sum
//   token       a = 2^(score - N) * inverse; square sum = fma(a, a, square sum), pairs ascending
//   mean        of slices, ascending, of kv heads, ascending: added; / (heads * queries that see
//   it)
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>

#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include "kernels/attention.cuh"
#include "kernels/cache_row.cuh"
#include "kernels/key_scores.cuh"
#include "kernels/ptx.cuh"
#include "kernels/shared_storage.cuh"

namespace kvferry {
namespace kernels {

constexpr std::uint32_t kSlicePairs = 32;

// What the three kernels share. `queries` is at most `rows`.
struct TokenAttentionKernelParams {
  TokenAttentionParams call;
  float2* sums;              // [kv_heads, partitions, pairs]: maximum, sum
  float* squares;            // [slices, kv_heads, rows]
  std::uint32_t pairs;       // queries * group
  std::uint32_t slices;      // ceil(pairs / kSlicePairs)
  std::uint32_t partitions;  // of keys [0, begin + rows)
};

template <int kDim>
struct TokenAttentionTraits {
  static_assert(kDim == 64 || kDim == 128, "head_dim");
  static constexpr int kHeadDim = kDim;
  static constexpr int kThreads = static_cast<int>(kPartitionTokens);
  static constexpr int kWarps = kThreads / 32;

  struct alignas(16) Slice {
    StagedQuery<kDim> queries[kSlicePairs];
    float factors[kSlicePairs];
    std::uint32_t positions[kSlicePairs];
  };
  struct SumsShared {
    Slice slice;
    float scores[kSlicePairs][kPartitionTokens];
  };
  struct SquaresShared {
    Slice slice;
    float maximum[kSlicePairs];
    float inverse[kSlicePairs];
  };
};

// Pairs of slice blockIdx.z.
__device__ inline std::uint32_t slice_pairs(const TokenAttentionKernelParams& params) {
  const std::uint32_t rest = params.pairs - blockIdx.z * kSlicePairs;
  return rest < kSlicePairs ? rest : kSlicePairs;
}

// Stages slice blockIdx.z of kv head blockIdx.y. A barrier has to follow.
template <typename Traits, typename Query>
__device__ void stage_slice(const TokenAttentionKernelParams& params,
                            typename Traits::Slice& slice) {
  const TokenAttentionParams& call = params.call;
  const std::uint32_t group = call.shape.heads / call.shape.kv_heads;
  const std::uint32_t pairs = slice_pairs(params);
  for (std::uint32_t i = threadIdx.x / 32; i < pairs; i += Traits::kWarps) {
    const std::uint32_t pair = blockIdx.z * kSlicePairs + i;
    const std::uint32_t row = call.rows - call.queries + pair / group;
    const std::size_t query =
        static_cast<std::size_t>(row) * call.shape.heads + blockIdx.y * group + pair % group;
    const float unit =
        stage_query(static_cast<const Query*>(call.q) + query * Traits::kHeadDim, slice.queries[i]);
    if (threadIdx.x % 32 == 0) {
      slice.factors[i] = unit * (call.shape.scale * kLog2E);
      slice.positions[i] = call.begin + row;
    }
  }
}

// Grid (partitions, kv_heads, slices).
template <typename Query, int kHeadDim>
__global__ void __launch_bounds__(TokenAttentionTraits<kHeadDim>::kThreads)
    softmax_sums(TokenAttentionKernelParams params) {
  using Traits = TokenAttentionTraits<kHeadDim>;
  typename Traits::SumsShared& shared = shared_storage<typename Traits::SumsShared>();
  const TokenAttentionParams& call = params.call;
  const std::uint32_t pairs = slice_pairs(params);
  stage_slice<Traits, Query>(params, shared.slice);

  const std::uint32_t token = blockIdx.x * kPartitionTokens + threadIdx.x;
  KeyRow<kHeadDim> key = {};
  if (token < call.begin + call.rows) {
    key = load_key<kHeadDim>(
        cache_row<kHeadDim>(call.blocks, call.shape.key_offset, blockIdx.y, token));
  }
  __syncthreads();
  for (std::uint32_t i = 0; i < pairs; ++i) {
    const float score = dot(key, shared.slice.queries[i]) * shared.slice.factors[i];
    shared.scores[i][threadIdx.x] = token <= shared.slice.positions[i] ? score : -INFINITY;
  }
  __syncthreads();

  const std::uint32_t lane = threadIdx.x % 32;
  float2* const out =
      params.sums +
      (static_cast<std::size_t>(blockIdx.y) * params.partitions + blockIdx.x) * params.pairs +
      blockIdx.z * kSlicePairs;
  for (std::uint32_t i = threadIdx.x / 32; i < pairs; i += Traits::kWarps) {
    const float4 score = *reinterpret_cast<const float4*>(&shared.scores[i][4 * lane]);
    const float maximum = warp_maximum(fmaxf(fmaxf(score.x, score.y), fmaxf(score.z, score.w)));
    const float zero = maximum == -INFINITY ? 0.0f : maximum;  // -inf less itself is no number
    const float sum =
        warp_sum(((ptx::exp2_approx(score.x - zero) + ptx::exp2_approx(score.y - zero)) +
                  ptx::exp2_approx(score.z - zero)) +
                 ptx::exp2_approx(score.w - zero));
    if (lane == 0) out[i] = make_float2(maximum, sum);
  }
}

// Grid (partitions that hold the chunk's rows, kv_heads, slices).
template <typename Query, int kHeadDim>
__global__ void __launch_bounds__(TokenAttentionTraits<kHeadDim>::kThreads)
    squared_weights(TokenAttentionKernelParams params) {
  using Traits = TokenAttentionTraits<kHeadDim>;
  typename Traits::SquaresShared& shared = shared_storage<typename Traits::SquaresShared>();
  const TokenAttentionParams& call = params.call;
  const std::uint32_t pairs = slice_pairs(params);
  stage_slice<Traits, Query>(params, shared.slice);
  if (threadIdx.x < pairs) {
    const float2* const sums =
        params.sums + static_cast<std::size_t>(blockIdx.y) * params.partitions * params.pairs +
        blockIdx.z * kSlicePairs + threadIdx.x;
    float maximum = sums[0].x;
    for (std::uint32_t p = 1; p < params.partitions; ++p) {
      maximum = fmaxf(maximum, sums[static_cast<std::size_t>(p) * params.pairs].x);
    }
    float sum = 0.0f;
    for (std::uint32_t p = 0; p < params.partitions; ++p) {
      const float2 part = sums[static_cast<std::size_t>(p) * params.pairs];
      sum = fmaf(part.y, ptx::exp2_approx(part.x - maximum), sum);
    }
    shared.maximum[threadIdx.x] = maximum;
    shared.inverse[threadIdx.x] = 1.0f / sum;
  }
  __syncthreads();

  const std::uint32_t token =
      (call.begin / kPartitionTokens + blockIdx.x) * kPartitionTokens + threadIdx.x;
  if (token < call.begin || token >= call.begin + call.rows) return;
  const KeyRow<kHeadDim> key = load_key<kHeadDim>(
      cache_row<kHeadDim>(call.blocks, call.shape.key_offset, blockIdx.y, token));
  float sum = 0.0f;
  for (std::uint32_t i = 0; i < pairs; ++i) {
    const float score = dot(key, shared.slice.queries[i]) * shared.slice.factors[i];
    const float weight = ptx::exp2_approx(score - shared.maximum[i]) * shared.inverse[i];
    if (token <= shared.slice.positions[i]) sum = fmaf(weight, weight, sum);
  }
  params.squares[(static_cast<std::size_t>(blockIdx.z) * call.shape.kv_heads + blockIdx.y) *
                     call.rows +
                 (token - call.begin)] = sum;
}

template <unsigned kThreads>
__global__ void __launch_bounds__(kThreads)
    mean_squared_weights(TokenAttentionKernelParams params) {
  const TokenAttentionParams& call = params.call;
  const std::uint32_t row = blockIdx.x * kThreads + threadIdx.x;
  if (row >= call.rows) return;
  const std::size_t parts = static_cast<std::size_t>(params.slices) * call.shape.kv_heads;
  float sum = 0.0f;
  for (std::size_t part = 0; part < parts; ++part) {
    sum += params.squares[part * call.rows + row];
  }
  const std::uint32_t first = call.rows - call.queries;
  const std::uint32_t seen_by = call.rows - (row > first ? row : first);
  call.out[row] = sum / (static_cast<float>(seen_by) * static_cast<float>(call.shape.heads));
}

}  // namespace kernels
}  // namespace kvferry
