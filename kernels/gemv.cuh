// Matrix-vector products of path::MaxwellFp16: y[b] = W x[b] for one to four vectors, weights as in
// kvferry/compute/device/octet_layout.hpp, half2 products summed in short chains.
//
// The weights are read once, whatever the batch. A warp takes one or two octets of rows, its lanes
// four groups of columns at a time; loads of four 16-byte parts a lane are in flight together.
//
// The order of all sums, so that another implementation can give the same bits:
//   chain    16 columns c to c + 15: p0 = w[c], w[c + 1] times x as two F16 products; then seven
//            fused multiply-adds with the next pairs; rounded to F16 each, subnormals kept
//   group    (low + high of its first chain) + (low + high of its second), in F32
//   lane     groups j, j + 4, j + 8, … one after the other by Format::accumulate, j = lane / 8
//   row      (lane 0 + lane 1) + (lane 2 + lane 3), of the four j
//   output   times the matrix's multiplier, then the output's
// Compiled without contraction (-fmad=false) and with IEEE division and square root.
#pragma once

#include <cstddef>
#include <cstdint>

#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include "kvferry/compute/device/gemv.hpp"

#include "kernels/gemv_epilogue.cuh"
#include "kernels/gemv_formats.cuh"
#include "kernels/gemv_input.cuh"
#include "kernels/shared_storage.cuh"

namespace kvferry {
namespace kernels {

// Blocks that run on one multiprocessor at once, by their registers: 64, 80 and 128 a thread.
constexpr int gemv_blocks(int batch) {
  return batch == 1 ? 4 : batch == 2 ? 3 : 2;
}

template <typename Input, typename Output>
struct GemvParams {
  GemvMatrix matrix;
  Input input;
  Output output;
};

// The sum of a chain's two halves; the inputs are its first and second four pairs.
__device__ inline float chain_sum(const __half2 (&weights)[8], const uint4& first,
                                  const uint4& second) {
  __half2 sum = __hmul2(weights[0], half2_of(first.x));
  sum = __hfma2(weights[1], half2_of(first.y), sum);
  sum = __hfma2(weights[2], half2_of(first.z), sum);
  sum = __hfma2(weights[3], half2_of(first.w), sum);
  sum = __hfma2(weights[4], half2_of(second.x), sum);
  sum = __hfma2(weights[5], half2_of(second.y), sum);
  sum = __hfma2(weights[6], half2_of(second.z), sum);
  sum = __hfma2(weights[7], half2_of(second.w), sum);
  return __low2float(sum) + __high2float(sum);
}

// Sets (c = 0) or adds (c = 1) chain c of a group to the group's sums.
template <typename Format, int c, int kBatch, int kOctets>
__device__ void add_chain(const uint4 (&quants)[kOctets][Format::kParts], const InputQuad* quad,
                          int quads, int index, float (&sums)[kOctets][kBatch]) {
  __half2 weights[kOctets][8];
#pragma unroll
  for (int o = 0; o < kOctets; ++o) Format::template chain<c>(quants[o], weights[o]);
#pragma unroll
  for (int b = 0; b < kBatch; ++b) {
    const uint4 first = quad[b * quads].x[2 * c][index];
    const uint4 second = quad[b * quads].x[2 * c + 1][index];
#pragma unroll
    for (int o = 0; o < kOctets; ++o) {
      const float sum = chain_sum(weights[o], first, second);
      sums[o][b] = c == 0 ? sum : sums[o][b] + sum;
    }
  }
}

// Adds this lane's share of a row of every octet for quads [0, kQuads), all of whose groups it has.
// The octets' parts are `apart` from each other, their scales `scales_apart`.
template <typename Format, int kBatch, int kOctets, int kQuads>
__device__ void add_quads(const uint4* quants, unsigned apart, const typename Format::Scale* scales,
                          unsigned scales_apart, const InputQuad* quad, int quads, int index,
                          float (&sums)[kOctets][kBatch]) {
  uint4 parts[kQuads][kOctets][Format::kParts];
  typename Format::Scale scale[kQuads][kOctets];
#pragma unroll
  for (int q = 0; q < kQuads; ++q) {
#pragma unroll
    for (int o = 0; o < kOctets; ++o) {
#pragma unroll
      for (int part = 0; part < Format::kParts; ++part) {
        parts[q][o][part] =
            __ldg(quants + o * apart + (4 * q * Format::kParts + part) * octet::kRows);
      }
      scale[q][o] = Format::load_scale(scales + o * scales_apart + 4 * q * octet::kRows);
    }
  }
#pragma unroll
  for (int q = 0; q < kQuads; ++q) {
    float group[kOctets][kBatch];
    add_chain<Format, 0>(parts[q], quad + q, quads, index, group);
    add_chain<Format, 1>(parts[q], quad + q, quads, index, group);
#pragma unroll
    for (int b = 0; b < kBatch; ++b) {
      const GroupTerms terms = quad[q + b * quads].terms[index];
#pragma unroll
      for (int o = 0; o < kOctets; ++o) {
        sums[o][b] = Format::accumulate(sums[o][b], group[o][b], scale[q][o], terms);
      }
    }
  }
}

template <typename Format, int kBatch, typename Input, typename Output>
__global__ void __launch_bounds__(kGemvThreads, gemv_blocks(kBatch))
    gemv(GemvParams<Input, Output> params) {
  constexpr int kOctets = Format::kOctets;
  constexpr int kQuads = 4 / Format::kParts / kOctets;  // of one step: four loads
  constexpr int kGroupParts = Format::kParts * octet::kRows;
  using Scale = typename Format::Scale;
  GemvShared& shared = shared_storage<GemvShared>();
  InputQuad* const inputs = reinterpret_cast<InputQuad*>(&shared + 1);
  const GemvMatrix& matrix = params.matrix;
  stage_input<Format, kBatch>(params.input, matrix.columns, matrix.input_exponent, shared, inputs);
  __syncthreads();

  const int warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32;
  const int index = lane / 8, row_of_octet = lane % 8;
  const int groups = matrix.columns / octet::kGroupColumns;
  const int quads = (groups + 3) / 4;
  const int octets = (matrix.rows + octet::kRows - 1) / octet::kRows;
  const int stride = static_cast<int>(gridDim.x) * kGemvWarps * kOctets;
  for (int octet = (static_cast<int>(blockIdx.x) * kGemvWarps + warp) * kOctets; octet < octets;
       octet += stride) {
    const unsigned group = static_cast<unsigned>(octet * groups + index);
    const uint4* quants =
        reinterpret_cast<const uint4*>(matrix.quants) + (group * kGroupParts + row_of_octet);
    const Scale* scales =
        static_cast<const Scale*>(matrix.scales) + (group * octet::kRows + row_of_octet);
    // Where there is no second octet the first is computed twice and stored once.
    const unsigned groups_apart = octet + 1 < octets ? static_cast<unsigned>(groups) : 0u;
    const unsigned apart = groups_apart * kGroupParts, scales_apart = groups_apart * octet::kRows;
    float sums[kOctets][kBatch] = {};
    int quad = 0;
#pragma unroll 1
    for (; 4 * (quad + kQuads) <= groups; quad += kQuads) {
      add_quads<Format, kBatch, kOctets, kQuads>(quants, apart, scales, scales_apart, inputs + quad,
                                                 quads, index, sums);
      quants += 4 * kQuads * kGroupParts;
      scales += 4 * kQuads * octet::kRows;
    }
#pragma unroll 1
    for (; 4 * quad + index < groups; ++quad) {
      add_quads<Format, kBatch, kOctets, 1>(quants, apart, scales, scales_apart, inputs + quad,
                                            quads, index, sums);
      quants += 4 * kGroupParts;
      scales += 4 * octet::kRows;
    }
#pragma unroll
    for (int o = 0; o < kOctets; ++o) {
      // The lanes of vector b are those of group b.
      float value = 0.0f;
#pragma unroll
      for (int b = 0; b < kBatch; ++b) {
        float sum = sums[o][b];
        sum += __shfl_xor_sync(0xffffffffu, sum, 8);
        sum += __shfl_xor_sync(0xffffffffu, sum, 16);
        if (index == b) value = sum;
      }
      const int row = (octet + o) * octet::kRows + row_of_octet;
      write(params.output, index, row, value * matrix.multiplier,
            index < kBatch && row < matrix.rows);
    }
  }
}

}  // namespace kernels
}  // namespace kvferry
