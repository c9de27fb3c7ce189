// gemm_s8: C[M, N] = A[M, K] B[N, K]^T in whole numbers on the tensor cores, then an epilogue.
//
//   C[m, n] = (sum over k of A[m, k] B[n, k]) a_scale[m] b_scale[n]
// The sum is exact; an epilogue gets x = float(sum) * a_scale[m], rounded twice, and multiplies by
// b_scale[n] itself (gemm_s8_epilogue.cuh).
//
// A block computes a tile of C, its warps 64 x 64 each: below that the loads from shared memory,
// not the tensor cores, would set the pace. Slices of 64 columns of A and B pass through kStages
// buffers of shared memory, filled by cp.async. A row of a slice is four chunks of 16 bytes; chunk
// c lies at place c ^ (row / 2 % 4), so that neither the copies nor ldmatrix meet a bank twice.
// Fragments are double-buffered in registers, over the end of a slice too.
#pragma once

#include <cstddef>
#include <cstdint>

#include <cuda_runtime.h>

#include "kernels/ptx.cuh"
#include "kernels/shared_storage.cuh"

namespace kvferry {
namespace kernels {

constexpr int kGemmSlice = 64;  // columns of A and B at a time
constexpr int kGemmWarpTile = 64;

// A tile of kM x kN of C with a warp for each 64 x 64, and the number of slices in flight.
// kBlocks of them share an SM (registers).
template <int kRows, int kColumns, int kStageCount, int kBlocksPerSm>
struct GemmS8Traits {
  static constexpr int kM = kRows;
  static constexpr int kN = kColumns;
  static constexpr int kStages = kStageCount;
  static constexpr int kBlocks = kBlocksPerSm;
  static constexpr int kWarpsN = kN / kGemmWarpTile;
  static constexpr int kThreads = 32 * (kM / kGemmWarpTile) * kWarpsN;
  static constexpr int kChunks = kGemmSlice / 16;       // of a row of a slice
  static constexpr int kCopyRows = kThreads / kChunks;  // rows that the block copies at once
  static constexpr int kCopiesA = kM / kCopyRows;
  static constexpr int kCopiesB = kN / kCopyRows;
  static_assert(kM % kGemmWarpTile == 0 && kN % kGemmWarpTile == 0, "whole warp tiles");
  static_assert(kCopyRows % 8 == 0 && kM % kCopyRows == 0 && kN % kCopyRows == 0,
                "a thread copies the same place of all its rows");
  static_assert(kStages >= 3, "one slice is read, one awaited, one filled");

  struct Shared {
    uint4 a[kStages][kM * kChunks];
    uint4 b[kStages][kN * kChunks];
  };
};

template <typename Epilogue>
struct GemmS8Params {
  const std::int8_t* a;  // [m, k], 16-byte aligned
  const std::int8_t* b;  // [n, k], 16-byte aligned
  const float* a_scale;  // [m]
  const float* b_scale;  // [n]
  int m;
  int n;
  int k;  // a multiple of 64
  Epilogue epilogue;
};

// Place of a chunk of a slice's row, counted in chunks.
__device__ inline int gemm_place(int row, int chunk) {
  return row * 4 + (chunk ^ (row / 2 % 4));
}

// Copies of one operand: thread t copies chunk t % 4 of rows t / 4, t / 4 + kCopyRows, ….
template <int kCopies, int kCopyRows>
class GemmCopy {
 public:
  // Rows [first, count) of `matrix`, [count, k]; rows past them are zeros.
  __device__ GemmCopy(const std::int8_t* matrix, int first, int count, int k) {
    const int row = static_cast<int>(threadIdx.x) / 4, chunk = static_cast<int>(threadIdx.x) % 4;
    place_ = gemm_place(row, chunk);
    row_step_ = static_cast<std::size_t>(kCopyRows) * k;
    // A thread without any row copies zeros from the start.
    const int valid = count - first - row;
    rows_ = valid > 0 ? (valid + kCopyRows - 1) / kCopyRows : 0;
    source_ = matrix + static_cast<std::size_t>(valid > 0 ? first + row : 0) * k + 16 * chunk;
  }

  // The next slice into `slice`.
  __device__ void slice(uint4* slice) {
    const std::int8_t* source = source_;
#pragma unroll
    for (int i = 0; i < kCopies; ++i) {
      ptx::cp_async_16(slice + place_ + i * kCopyRows * 4, i < rows_ ? source : source_, i < rows_);
      source += row_step_;
    }
    source_ += kGemmSlice;
  }

 private:
  const std::int8_t* source_;
  std::size_t row_step_;
  int place_;
  int rows_;  // of this thread that there are
};

// Fragments of half a slice for a warp's tile.
struct GemmFragments {
  std::uint32_t a[4][4];  // rows 16 i to 16 i + 15
  std::uint32_t b[8][2];  // columns 8 j to 8 j + 7
};

// Those of columns [32 step, 32 step + 32); `a` and `b` begin at the warp's first row.
__device__ inline void load_fragments(const uint4* a, const uint4* b, int step,
                                      GemmFragments& fragments) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const uint4* a_row = a + gemm_place(lane % 16, 2 * step + lane / 16);
  const uint4* b_row = b + gemm_place(lane % 8 + lane / 16 * 8, 2 * step + lane / 8 % 2);
#pragma unroll
  for (int i = 0; i < 4; ++i) ptx::ldmatrix_x4(fragments.a[i], a_row + i * 16 * 4);
#pragma unroll
  for (int j = 0; j < 8; j += 2) {
    std::uint32_t tiles[4];
    ptx::ldmatrix_x4(tiles, b_row + j * 8 * 4);
    fragments.b[j][0] = tiles[0];
    fragments.b[j][1] = tiles[1];
    fragments.b[j + 1][0] = tiles[2];
    fragments.b[j + 1][1] = tiles[3];
  }
}

__device__ inline void multiply(const GemmFragments& fragments, std::int32_t (&sums)[4][8][4]) {
#pragma unroll
  for (int i = 0; i < 4; ++i) {
#pragma unroll
    for (int j = 0; j < 8; ++j) ptx::mma_s8(sums[i][j], fragments.a[i], fragments.b[j]);
  }
}

// Which tile of C a block computes. Blocks walk down bands of 512 columns, row of tiles by row of
// tiles: those that run at the same time share rows of A and B, about 512 x 512 of C, in the L2.
struct GemmTileOrigin {
  int row;
  int column;
};
template <typename Traits>
__device__ GemmTileOrigin gemm_tile_origin(int m, int n) {
  constexpr int kBand = 512 / Traits::kN;
  const int tiles_m = (m + Traits::kM - 1) / Traits::kM,
            tiles_n = (n + Traits::kN - 1) / Traits::kN;
  const int index = static_cast<int>(blockIdx.x);
  const int band = index / (tiles_m * kBand);
  const int width = min(kBand, tiles_n - band * kBand);
  const int rest = index - band * tiles_m * kBand;
  return {rest / width * Traits::kM, (band * kBand + rest % width) * Traits::kN};
}

template <typename Traits, typename Epilogue>
__global__ void __launch_bounds__(Traits::kThreads, Traits::kBlocks)
    gemm_s8(GemmS8Params<Epilogue> params) {
  constexpr int kStages = Traits::kStages;
  auto& shared = shared_storage<typename Traits::Shared>();
  const GemmTileOrigin origin = gemm_tile_origin<Traits>(params.m, params.n);
  const int warp = static_cast<int>(threadIdx.x) / 32;
  const int warp_row = warp / Traits::kWarpsN * kGemmWarpTile;
  const int warp_column = warp % Traits::kWarpsN * kGemmWarpTile;

  GemmCopy<Traits::kCopiesA, Traits::kCopyRows> copy_a(params.a, origin.row, params.m, params.k);
  GemmCopy<Traits::kCopiesB, Traits::kCopyRows> copy_b(params.b, origin.column, params.n, params.k);
  const int slices = params.k / kGemmSlice;
  // A group for every slice, also for those past the end: waiting counts groups.
#pragma unroll
  for (int s = 0; s < kStages - 1; ++s) {
    if (s < slices) {
      copy_a.slice(shared.a[s]);
      copy_b.slice(shared.b[s]);
    }
    ptx::cp_async_commit();
  }

  std::int32_t sums[4][8][4] = {};
  GemmFragments fragments[2];
  int stage = 0, filled = kStages - 1;
  const auto load = [&](int step, GemmFragments& to) {
    load_fragments(shared.a[stage] + warp_row * Traits::kChunks,
                   shared.b[stage] + warp_column * Traits::kChunks, step, to);
  };
  ptx::cp_async_wait<kStages - 2>();
  __syncthreads();
  load(0, fragments[0]);
#pragma unroll 1
  for (int s = 0; s < slices; ++s) {
    load(1, fragments[1]);
    // Into the slice before, which every warp had read at the last barrier.
    if (s + kStages - 1 < slices) {
      copy_a.slice(shared.a[filled]);
      copy_b.slice(shared.b[filled]);
    }
    ptx::cp_async_commit();
    filled = filled + 1 == kStages ? 0 : filled + 1;
    stage = stage + 1 == kStages ? 0 : stage + 1;
    multiply(fragments[0], sums);
    if (s + 1 < slices) {
      ptx::cp_async_wait<kStages - 2>();
      __syncthreads();
      load(0, fragments[0]);
    }
    multiply(fragments[1], sums);
  }

  // Lane l holds rows l / 4 and l / 4 + 8 and columns 2 (l % 4) and the next of every 16 x 8.
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int first_row = origin.row + warp_row + lane / 4;
  const int first_column = origin.column + warp_column + lane % 4 * 2;
  float a_scale[8];
  typename Epilogue::Row rows[8];
#pragma unroll
  for (int i = 0; i < 8; ++i) {
    const int row = first_row + 8 * i;
    a_scale[i] = row < params.m ? __ldg(params.a_scale + row) : 0.0f;
    rows[i] = params.epilogue.row(row, params.m);
  }
  constexpr int kPairs = Epilogue::kPairs;
#pragma unroll
  for (int j = 0; j < 8; j += kPairs) {
    typename Epilogue::Columns columns[kPairs];
#pragma unroll
    for (int p = 0; p < kPairs; ++p) {
      columns[p] = params.epilogue.columns(first_column + 8 * (j + p), params.n, params.b_scale);
    }
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      float2 x[kPairs];
#pragma unroll
      for (int p = 0; p < kPairs; ++p) {
        const std::int32_t* sum = sums[i / 2][j + p] + i % 2 * 2;
        x[p] = make_float2(__fmul_rn(static_cast<float>(sum[0]), a_scale[i]),
                           __fmul_rn(static_cast<float>(sum[1]), a_scale[i]));
      }
      params.epilogue.write(rows[i], columns, x);
    }
  }
}

}  // namespace kernels
}  // namespace kvferry
