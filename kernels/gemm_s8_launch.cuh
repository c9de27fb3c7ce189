// launch_gemm_s8(): checks an INT8 matrix product, launches the tile that the caller chose.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include <cuda_runtime.h>

#include "kernels/gemm_s8.cuh"
#include "kernels/gemm_s8_epilogue.cuh"
#include "kernels/launch.cuh"
#include "kernels/launch_status.cuh"

namespace kvferry {
namespace kernels {

// The tile of C that a block computes. Which is the fastest depends on the shape and the device.
enum class GemmS8Tile : std::uint8_t {
  k128x128,  // 4 warps, two blocks on an SM
  k128x256,  // 8 warps, one block
  k64x128,   // 2 warps, four blocks: for few rows
};
constexpr GemmS8Tile kGemmS8Tiles[] = {GemmS8Tile::k128x128, GemmS8Tile::k128x256,
                                       GemmS8Tile::k64x128};

struct GemmS8Choice {
  GemmS8Tile tile;
  int stages;  // 3 to 5
};
constexpr GemmS8Choice kGemmS8Default = {GemmS8Tile::k128x128, 4};

// C[m, n] = A[m, k] B[n, k]^T; device memory.
struct GemmS8Operands {
  const std::int8_t* a;  // [m, k], 16-byte aligned
  const float* a_scale;  // [m]
  const std::int8_t* b;  // [n, k], 16-byte aligned
  const float* b_scale;  // [n]
  int m;
  int n;
  int k;  // a multiple of 64, up to kGemmS8MaxK
};

// Sums of this many products of -128 and -128 fit 32 bits.
constexpr int kGemmS8MaxK = (1 << 17) - kGemmSlice;
// Rows and columns, so that a tile past the end is still a number.
constexpr int kGemmS8MaxSide = 1 << 30;

// Shapes and pointers have been checked. `what` is for messages.
template <typename Traits, typename Epilogue>
LaunchStatus launch_gemm_s8_tile(const GemmS8Operands& o, const Epilogue& epilogue,
                                 const std::string& what, cudaStream_t stream) {
  constexpr std::size_t kShared = sizeof(typename Traits::Shared);
  int device = 0, limit = 0;
  cudaError_t status = cudaGetDevice(&device);
  if (status == cudaSuccess) {
    status = cudaDeviceGetAttribute(&limit, cudaDevAttrMaxSharedMemoryPerBlockOptin, device);
  }
  if (status != cudaSuccess) return launched(status, what);
  if (kShared > static_cast<std::size_t>(limit)) {
    return Error(ErrorCode::kUnsupported, what + ": a tile of " + std::to_string(Traits::kM) +
                                              " x " + std::to_string(Traits::kN) + " in " +
                                              std::to_string(Traits::kStages) + " stages needs " +
                                              std::to_string(kShared) +
                                              " bytes of shared memory, the "
                                              "device's blocks have " +
                                              std::to_string(limit) + "; take fewer stages");
  }
  const int tiles = (o.m + Traits::kM - 1) / Traits::kM * ((o.n + Traits::kN - 1) / Traits::kN);
  const LaunchShape shape = {dim3(static_cast<unsigned>(tiles)), dim3(Traits::kThreads), kShared,
                             stream};
  const GemmS8Params<Epilogue> params = {o.a, o.b, o.a_scale, o.b_scale, o.m, o.n, o.k, epilogue};
  return launched(launch(shape, gemm_s8<Traits, Epilogue>, params), what);
}

template <int kStages, typename Epilogue>
LaunchStatus launch_gemm_s8_stages(const GemmS8Operands& o, const Epilogue& epilogue,
                                   GemmS8Tile tile, const std::string& what, cudaStream_t stream) {
  switch (tile) {
    case GemmS8Tile::k128x256:
      return launch_gemm_s8_tile<GemmS8Traits<128, 256, kStages, 1>>(o, epilogue, what, stream);
    case GemmS8Tile::k64x128:
      return launch_gemm_s8_tile<GemmS8Traits<64, 128, kStages, 4>>(o, epilogue, what, stream);
    default:
      return launch_gemm_s8_tile<GemmS8Traits<128, 128, kStages, 2>>(o, epilogue, what, stream);
  }
}

// kInvalidArgument names what cannot be computed, kUnsupported a choice for which the device has
// too little shared memory; nothing was launched then. The result has the same bits whatever the
// choice.
template <typename Epilogue>
LaunchStatus launch_gemm_s8(const GemmS8Operands& o, const Epilogue& epilogue,
                            const GemmS8Choice& choice, cudaStream_t stream) {
  const std::string what = "gemm_s8: " + std::to_string(o.m) + " x " + std::to_string(o.n) +
                           " over " + std::to_string(o.k);
  if (o.m < 1 || o.n < 1 || o.m > kGemmS8MaxSide || o.n > kGemmS8MaxSide) {
    return invalid_launch(what + ": rows and columns must be from 1 to " +
                          std::to_string(kGemmS8MaxSide));
  }
  if (o.k < kGemmSlice || o.k % kGemmSlice != 0 || o.k > kGemmS8MaxK) {
    return invalid_launch(what + ": the inner size must be a multiple of " +
                          std::to_string(kGemmSlice) + " up to " + std::to_string(kGemmS8MaxK));
  }
  // In the smallest tiles, which are the most.
  if ((std::int64_t{o.m} + 63) / 64 * ((std::int64_t{o.n} + 127) / 128) > (1 << 30)) {
    return invalid_launch(what + ": more tiles than a grid has blocks");
  }
  if (!is_aligned(o.a, 16) || !is_aligned(o.b, 16)) {
    return invalid_launch(what + ": a matrix is null or not aligned to 16 bytes");
  }
  if (!is_aligned(o.a_scale, 4) || !is_aligned(o.b_scale, 4)) {
    return invalid_launch(what + ": scales are null or not aligned to 4 bytes");
  }
  if (!epilogue.is_valid(o.m, o.n)) {
    return invalid_launch(what +
                          ": the epilogue is of another shape, or a pointer of it is null or "
                          "not aligned");
  }
  if (choice.tile > GemmS8Tile::k64x128) {
    return invalid_launch(what + ": there is no such tile");
  }
  switch (choice.stages) {
    case 3:
      return launch_gemm_s8_stages<3>(o, epilogue, choice.tile, what, stream);
    case 4:
      return launch_gemm_s8_stages<4>(o, epilogue, choice.tile, what, stream);
    case 5:
      return launch_gemm_s8_stages<5>(o, epilogue, choice.tile, what, stream);
    default:
      return invalid_launch(what + ": stages must be 3 to 5, not " + std::to_string(choice.stages));
  }
}

// Instantiated in src/compute/ampere.
extern template LaunchStatus launch_gemm_s8(const GemmS8Operands&, const GemmStore&,
                                            const GemmS8Choice&, cudaStream_t);
extern template LaunchStatus launch_gemm_s8(const GemmS8Operands&, const GemmAddResidual&,
                                            const GemmS8Choice&, cudaStream_t);
extern template LaunchStatus launch_gemm_s8(const GemmS8Operands&, const GemmSwiGlu&,
                                            const GemmS8Choice&, cudaStream_t);
extern template LaunchStatus launch_gemm_s8(const GemmS8Operands&, const GemmRopeWrite&,
                                            const GemmS8Choice&, cudaStream_t);

}  // namespace kernels
}  // namespace kvferry
