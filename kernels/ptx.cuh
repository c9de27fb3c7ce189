// PTX instructions that CUDA C++ has no name for, one a function. The only file with inline
// assembly; the emulation's twins have the same names (tests/simt).
#pragma once

#include <cstdint>

#include <cuda_fp16.h>
#include <cuda_runtime.h>

#if defined(__CUDACC__)

namespace kvferry {
namespace kernels {
namespace ptx {

// The address of something in shared memory as the instructions below take it.
__device__ inline std::uint32_t shared_address(const void* pointer) {
  return static_cast<std::uint32_t>(__cvta_generic_to_shared(pointer));
}

// Copies 16 bytes, both ends aligned to 16, or 16 zeros when `is_valid` is false (`global` must be
// an address all the same). Seen after cp_async_wait and a barrier. sm_80.
__device__ inline void cp_async_16(void* shared, const void* global, bool is_valid = true) {
  const std::uint32_t bytes = is_valid ? 16 : 0;
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(shared_address(shared)),
               "l"(global), "r"(bytes)
               : "memory");
}
// Ends a group of copies; groups are waited for in order. sm_80.
__device__ inline void cp_async_commit() {
  asm volatile("cp.async.commit_group;" ::: "memory");
}
// Waits until at most the last kGroups groups of this thread are outstanding. sm_80.
template <int kGroups>
__device__ inline void cp_async_wait() {
  asm volatile("cp.async.wait_group %0;" ::"n"(kGroups) : "memory");
}

// Four 8 x 8 tiles of 16-bit elements: lane l names row l % 8 of tile l / 8, 16 bytes aligned to
// 16; of each tile it gets elements 2 (l % 4) and the next of row l / 4. sm_75.
__device__ inline void ldmatrix_x4(std::uint32_t (&tiles)[4], const void* shared_row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(tiles[0]), "=r"(tiles[1]), "=r"(tiles[2]), "=r"(tiles[3])
               : "r"(shared_address(shared_row))
               : "memory");
}
// The same with each tile transposed.
__device__ inline void ldmatrix_x4_transposed(std::uint32_t (&tiles)[4], const void* shared_row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(tiles[0]), "=r"(tiles[1]), "=r"(tiles[2]), "=r"(tiles[3])
               : "r"(shared_address(shared_row))
               : "memory");
}

// sums [16, 8] += a [16, 32] b [32, 8], whole numbers. Fragments of lane l, g = l / 4, t = l % 4:
// a[0] = A[g][4t..], a[1] = A[g + 8][4t..], a[2] = A[g][4t + 16..], a[3] = A[g + 8][4t + 16..];
// b[0] = B[4t..][g], b[1] = B[4t + 16..][g];
// sums = C[g][2t], C[g][2t + 1], C[g + 8][2t], C[g + 8][2t + 1]. sm_80.
__device__ inline void mma_s8(std::int32_t (&sums)[4], const std::uint32_t (&a)[4],
                              const std::uint32_t (&b)[2]) {
  asm volatile(
      "mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, "
      "{%8, %9}, {%0, %1, %2, %3};"
      : "+r"(sums[0]), "+r"(sums[1]), "+r"(sums[2]), "+r"(sums[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

// sums [16, 8] += a [16, 16] b [16, 8], F16 products summed in F32. Fragments as those of mma_s8
// with half as many elements of twice the size: a[0] = A[g][2t..], a[1] = A[g + 8][2t..],
// a[2] = A[g][2t + 8..], a[3] = A[g + 8][2t + 8..]; b[0] = B[2t..][g], b[1] = B[2t + 8..][g].
// sm_80.
__device__ inline void mma_f16(float (&sums)[4], const std::uint32_t (&a)[4],
                               const std::uint32_t (&b)[2]) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, "
      "{%8, %9}, {%0, %1, %2, %3};"
      : "+f"(sums[0]), "+f"(sums[1]), "+f"(sums[2]), "+f"(sums[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

// 2^x to within 2 ulp; 0 for -inf, subnormal results are 0.
__device__ inline float exp2_approx(float x) {
  float result;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(result) : "f"(x));
  return result;
}

}  // namespace ptx
}  // namespace kernels
}  // namespace kvferry

#else

#include "simt/ptx.hpp"

#endif
