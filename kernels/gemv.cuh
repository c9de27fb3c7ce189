// Matrix-vector products of path::MaxwellFp16: y[b] = W x[b] for one to four vectors, weights as in
// kvferry/compute/device/octet_layout.hpp, half2 products summed in short chains.
//
// The weights are read once, whatever the batch. A warp takes an octet of rows, its lanes four
// groups of columns at a time; loads of four 16-byte parts a lane are in flight together.
//
// The order of all sums, so that another implementation can give the same bits:
//   chain    16 columns c to c + 15: p0 = w[c], w[c + 1] times x as two F16 products; then seven
//            fused multiply-adds with the next pairs; rounded to F16 each, subnormals kept
//   group    (low + high of its first chain) + (low + high of its second), in F32
//   lane     groups j, j + 4, j + 8, … one after the other by Format::accumulate, j = lane / 8
//   row      (lane 0 + lane 1) + (lane 2 + lane 3), of the four j
//   output   times the matrix's multiplier, then the output's
// Compiled without contraction (-fmad=false).
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

// The sum of a chain's two halves.
template <typename Format, int c>
__device__ float chain_sum(const __half2 (&weights)[8], const InputQuad& quad, int index) {
  __half2 sum;
#pragma unroll
  for (int part = 0; part < 2; ++part) {
    const uint4 x = quad.x[2 * c + part][index];
    sum = part == 0 ? __hmul2(weights[0], half2_of(x.x)) : __hfma2(weights[4], half2_of(x.x), sum);
    sum = __hfma2(weights[4 * part + 1], half2_of(x.y), sum);
    sum = __hfma2(weights[4 * part + 2], half2_of(x.z), sum);
    sum = __hfma2(weights[4 * part + 3], half2_of(x.w), sum);
  }
  return __low2float(sum) + __high2float(sum);
}

// Adds one group's share of a row to the sums.
template <typename Format, int kBatch>
__device__ void add_group(const uint4 (&quants)[Format::kParts], typename Format::Scale scale,
                          const InputQuad* quad, int quads, int index, float (&sums)[kBatch]) {
  float group[kBatch];
  {
    __half2 weights[8];
    Format::template chain<0>(quants, weights);
#pragma unroll
    for (int b = 0; b < kBatch; ++b) {
      group[b] = chain_sum<Format, 0>(weights, quad[b * quads], index);
    }
  }
  __half2 weights[8];
  Format::template chain<1>(quants, weights);
#pragma unroll
  for (int b = 0; b < kBatch; ++b) {
    group[b] += chain_sum<Format, 1>(weights, quad[b * quads], index);
    sums[b] = Format::accumulate(sums[b], group[b], scale, quad[b * quads].terms[index]);
  }
}

// This lane's share of a row for quads [first, first + kQuads), all of whose groups it has.
template <typename Format, int kBatch, int kQuads>
__device__ void add_quads(const uint4* quants, const typename Format::Scale* scales,
                          const InputQuad* quad, int quads, int index, float (&sums)[kBatch]) {
  uint4 parts[kQuads][Format::kParts];
  typename Format::Scale scale[kQuads];
#pragma unroll
  for (int q = 0; q < kQuads; ++q) {
#pragma unroll
    for (int part = 0; part < Format::kParts; ++part) {
      parts[q][part] = __ldg(quants + (4 * q * Format::kParts + part) * octet::kRows);
    }
    scale[q] = Format::load_scale(scales + 4 * q * octet::kRows);
  }
#pragma unroll
  for (int q = 0; q < kQuads; ++q) {
    add_group<Format, kBatch>(parts[q], scale[q], quad + q, quads, index, sums);
  }
}

template <typename Format, int kBatch, typename Input, typename Output>
__global__ void __launch_bounds__(kGemvThreads, gemv_blocks(kBatch))
    gemv(GemvParams<Input, Output> params) {
  constexpr int kQuads = 4 / Format::kParts;  // of one step: 4 loads
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
  const int stride = static_cast<int>(gridDim.x) * kGemvWarps;
  for (int octet = static_cast<int>(blockIdx.x) * kGemvWarps + warp; octet < octets;
       octet += stride) {
    const unsigned group = static_cast<unsigned>(octet * groups + index);
    const uint4* quants = reinterpret_cast<const uint4*>(matrix.quants) +
                          (group * (Format::kParts * octet::kRows) + row_of_octet);
    const Scale* scales =
        static_cast<const Scale*>(matrix.scales) + (group * octet::kRows + row_of_octet);
    float sums[kBatch] = {};
    int quad = 0;
#pragma unroll 1
    for (; 4 * (quad + kQuads) <= groups; quad += kQuads) {
      add_quads<Format, kBatch, kQuads>(quants, scales, inputs + quad, quads, index, sums);
      quants += 4 * kQuads * Format::kParts * octet::kRows;
      scales += 4 * kQuads * octet::kRows;
    }
#pragma unroll 1
    for (; 4 * quad + index < groups; ++quad) {
      add_quads<Format, kBatch, 1>(quants, scales, inputs + quad, quads, index, sums);
      quants += 4 * Format::kParts * octet::kRows;
      scales += 4 * octet::kRows;
    }
    // The lanes of vector b are those of group b.
    float value = 0.0f;
#pragma unroll
    for (int b = 0; b < kBatch; ++b) {
      float sum = sums[b];
      sum += __shfl_xor_sync(0xffffffffu, sum, 8);
      sum += __shfl_xor_sync(0xffffffffu, sum, 16);
      if (index == b) value = sum;
    }
    const int row = octet * octet::kRows + row_of_octet;
    write(params.output, index, row, value * matrix.multiplier,
          index < kBatch && row < matrix.rows);
  }
}

}  // namespace kernels
}  // namespace kvferry
