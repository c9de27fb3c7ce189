// split_attention: attention of one query a sequence on CUDA cores, for sm_53 and later.
//
// A block takes partitions of kPartitionTokens tokens, one after the other, for some of the query
// heads that share a kv head. Warp w has block w of a partition, lane l token l of it.
//
// The order of a partition's arithmetic (attention_combine.cuh has the rest):
//   score     as in key_scores.cuh; -inf for tokens past the query's position
//   maximum   M of the partition's scores
//   weight    w = 2^(score - M) / 8 rounded to F16: no sum of eight weighted values overflows
//   sum       lane l adds the weights of tokens 4 l to 4 l + 3, ascending, in F32; the lanes are
//             added as a butterfly, 16 apart first
//   values    of a dimension: chains of 8 tokens 8 i to 8 i + 7, w times value in F16, then fused
//             multiply-adds. Of a warp's 4 chains c0 to c3, in F32: (c0 + c2) + (c1 + c3) where
//             head_dim is 64, ((0 + c0) + c1) + ((0 + c2) + c3) where it is 128. Of the warps:
//             ((w0 + w1) + w2) + w3.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>

#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include "kernels/attention.cuh"
#include "kernels/cache_row.cuh"
#include "kernels/half2_bits.cuh"
#include "kernels/key_scores.cuh"
#include "kernels/ptx.cuh"
#include "kernels/shared_storage.cuh"

namespace kvferry {
namespace kernels {

template <int kDim>
struct SplitAttentionTraits {
  static_assert(kDim == 64 || kDim == 128, "head_dim");
  static constexpr int kHeadDim = kDim;
  static constexpr int kThreads = static_cast<int>(kPartitionTokens);
  static constexpr int kWarps = kThreads / 32;
  static constexpr int kBlocks = 4;          // on a multiprocessor
  static constexpr int kHeads = 512 / kDim;  // of a block, at most
  static constexpr int kLaneDims = kDim / 32;

  struct alignas(16) Shared {
    StagedQuery<kDim> queries[kHeads];
    uint4 weights[kHeads][kPartitionTokens / 8];  // F16
    float scores[kHeads][kPartitionTokens];
    // A lane's dimensions kLaneDims lane + i lie at [i][lane]: on different banks.
    float values[kWarps][kHeads][kLaneDims][32];
    float factors[kHeads];
  };
};

// Eight tokens' values, kept for eight dimensions, times their weights: adds a chain to sums.
__device__ inline void add_chain(const uint4* values, const uint4& weights, float (&sums)[8]) {
  const std::uint32_t pairs[4] = {weights.x, weights.y, weights.z, weights.w};
  __half2 chain[4];
#pragma unroll
  for (int token = 0; token < 8; ++token) {
    const __half2 two = half2_from_bits(pairs[token / 2]);
    const __half2 weight = token % 2 == 0 ? __low2half2(two) : __high2half2(two);
    const std::uint32_t value[4] = {values[token].x, values[token].y, values[token].z,
                                    values[token].w};
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      chain[i] = token == 0 ? __hmul2(weight, half2_from_bits(value[i]))
                            : __hfma2(weight, half2_from_bits(value[i]), chain[i]);
    }
  }
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    sums[2 * i] += __low2float(chain[i]);
    sums[2 * i + 1] += __high2float(chain[i]);
  }
}

// Lanes that are `distance` apart add what they have and keep one half each: the first of them the
// first half.
template <int kCount>
__device__ void add_halves(float (&sums)[8], int distance) {
  const bool keeps_second = (threadIdx.x & static_cast<unsigned>(distance)) != 0;
#pragma unroll
  for (int i = 0; i < kCount; ++i) {
    const float other = keeps_second ? sums[i] : sums[kCount + i];
    const float own = keeps_second ? sums[kCount + i] : sums[i];
    sums[i] = own + __shfl_xor_sync(0xffffffffu, other, distance);
  }
}

// The weighted values of this warp's tokens for the block's heads. Each of the warp's 32 / kChunks
// groups of lanes has kChunks of the tokens, each lane eight dimensions of them.
template <typename Traits>
__device__ void weigh_values(const uint4 (&values)[Traits::kHeadDim / 8], int heads,
                             typename Traits::Shared& shared) {
  constexpr int kChunks = Traits::kHeadDim / 8;
  const int warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32;
  // Of the eight dimensions the lane is left with kLaneDims.
  int dims = lane % kChunks * 8 + ((lane & 16) != 0 ? 4 : 0);
  if (kChunks == 8) dims += (lane & 8) != 0 ? 2 : 0;
  for (int head = 0; head < heads; ++head) {
    float sums[8] = {};
#pragma unroll
    for (int i = 0; i < kChunks / 8; ++i) {
      const uint4 weights = shared.weights[head][warp * 4 + lane / kChunks * (kChunks / 8) + i];
      add_chain(values + 8 * i, weights, sums);
    }
    add_halves<4>(sums, 16);
    if (kChunks == 8) add_halves<2>(sums, 8);
#pragma unroll
    for (int i = 0; i < Traits::kLaneDims; ++i) {
      shared.values[warp][head][i][dims / Traits::kLaneDims] = sums[i];
    }
  }
}

template <int kHeadDim>
__global__ void __launch_bounds__(SplitAttentionTraits<kHeadDim>::kThreads,
                                  SplitAttentionTraits<kHeadDim>::kBlocks)
    split_attention(SplitAttentionParams params) {
  using Traits = SplitAttentionTraits<kHeadDim>;
  constexpr int kChunks = kHeadDim / 8;
  typename Traits::Shared& shared = shared_storage<typename Traits::Shared>();
  const AttentionShape& shape = params.shape;
  const int warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32;
  const std::uint32_t sequence = blockIdx.z;
  const std::uint32_t position = params.positions[sequence];
  const CacheBlock* const blocks =
      params.blocks + static_cast<std::size_t>(sequence) * params.table_stride;

  const std::uint32_t group = shape.heads / shape.kv_heads;
  const std::uint32_t slices = (group + Traits::kHeads - 1) / Traits::kHeads;
  const std::uint32_t kv_head = blockIdx.y / slices;
  const std::uint32_t first_of_group = blockIdx.y % slices * Traits::kHeads;
  const std::uint32_t first_head = kv_head * group + first_of_group;
  const std::uint32_t rest = group - first_of_group;
  const int heads = rest < Traits::kHeads ? static_cast<int>(rest) : Traits::kHeads;

  for (int head = warp; head < heads; head += Traits::kWarps) {
    const std::size_t query = static_cast<std::size_t>(sequence) * shape.heads + first_head + head;
    const float unit = stage_query(params.q + query * kHeadDim, shared.queries[head]);
    if (lane == 0) shared.factors[head] = unit * (shape.scale * kLog2E);
  }
  __syncthreads();

  for (std::uint32_t partition = blockIdx.x; partition <= position / kPartitionTokens;
       partition += gridDim.x) {
    const std::uint32_t first_of_warp = partition * kPartitionTokens + warp * 32;
    const bool is_seen = first_of_warp + lane <= position;
    KeyRow<kHeadDim> key = {};
    if (is_seen) {
      key = load_key<kHeadDim>(
          cache_row<kHeadDim>(blocks, shape.key_offset, kv_head, first_of_warp + lane));
    }
    for (int head = 0; head < heads; ++head) {
      const float score = dot(key, shared.queries[head]) * shared.factors[head];
      shared.scores[head][threadIdx.x] = is_seen ? score : -INFINITY;
    }
    uint4 values[kChunks];
#pragma unroll
    for (int i = 0; i < kChunks; ++i) {
      const std::uint32_t token = first_of_warp + lane / kChunks * kChunks + i;
      values[i] = make_uint4(0, 0, 0, 0);
      if (token <= position) {
        values[i] =
            __ldg(cache_row<kHeadDim>(blocks, shape.value_offset, kv_head, token) + lane % kChunks);
      }
    }
    __syncthreads();

    const std::size_t partial =
        (static_cast<std::size_t>(sequence) * params.partials.partitions + partition) *
            shape.heads +
        first_head;
    for (int head = warp; head < heads; head += Traits::kWarps) {
      const float4 score = *reinterpret_cast<const float4*>(&shared.scores[head][4 * lane]);
      const float maximum = warp_maximum(fmaxf(fmaxf(score.x, score.y), fmaxf(score.z, score.w)));
      const __half2 low = __floats2half2_rn(ptx::exp2_approx(score.x - maximum) * 0.125f,
                                            ptx::exp2_approx(score.y - maximum) * 0.125f);
      const __half2 high = __floats2half2_rn(ptx::exp2_approx(score.z - maximum) * 0.125f,
                                             ptx::exp2_approx(score.w - maximum) * 0.125f);
      reinterpret_cast<uint2*>(shared.weights[head])[lane] =
          make_uint2(bits_of(low), bits_of(high));
      const float sum = warp_sum(((__low2float(low) + __high2float(low)) + __low2float(high)) +
                                 __high2float(high));
      if (lane == 0) params.partials.weights[partial + head] = make_float2(maximum, sum);
    }
    __syncthreads();

    weigh_values<Traits>(values, heads, shared);
    __syncthreads();

    for (int head = warp; head < heads; head += Traits::kWarps) {
      float* const out =
          params.partials.values + (partial + head) * kHeadDim + Traits::kLaneDims * lane;
      float sums[Traits::kLaneDims];
#pragma unroll
      for (int i = 0; i < Traits::kLaneDims; ++i) {
        sums[i] = shared.values[0][head][i][lane];
#pragma unroll
        for (int other = 1; other < Traits::kWarps; ++other) {
          sums[i] += shared.values[other][head][i][lane];
        }
      }
#pragma unroll
      for (int i = 0; i < Traits::kLaneDims; i += 2) {
        *reinterpret_cast<float2*>(out + i) = make_float2(sums[i], sums[i + 1]);
      }
    }
  }
}

}  // namespace kernels
}  // namespace kvferry
