// The functions of kernels/ptx.cuh on the CPU, by the same names. C++14.
//
// Asynchronous copies read and land at the wait, and fill their destination with 0xFF when they are
// issued, so that one who reads too early sees it. The matrix products are exact for whole numbers;
// mma_f16 adds the products, each exact, to the sum in F32 in the order of k, rounding to nearest
// each time (the device's order and rounding are its own).
#pragma once

#include <cmath>
#include <cstdint>

#include "simt/site.hpp"

namespace simt {

void cp_async_16(void* shared, const void* global, bool is_valid, Site site);
void cp_async_commit();
void cp_async_wait(int groups);
void ldmatrix_x4(std::uint32_t* tiles, const void* shared_row, bool is_transposed, Site site);
void mma_s8(std::int32_t* sums, const std::uint32_t* a, const std::uint32_t* b, Site site);
void mma_f16(float* sums, const std::uint32_t* a, const std::uint32_t* b, Site site);

}  // namespace simt

namespace kvferry {
namespace kernels {
namespace ptx {

inline void cp_async_16(void* shared, const void* global, bool is_valid = true,
                        simt::Site site = simt::Site::here()) {
  simt::cp_async_16(shared, global, is_valid, site);
}
inline void cp_async_commit() {
  simt::cp_async_commit();
}
template <int kGroups>
void cp_async_wait() {
  static_assert(kGroups >= 0, "a number of groups");
  simt::cp_async_wait(kGroups);
}

inline void ldmatrix_x4(std::uint32_t (&tiles)[4], const void* shared_row,
                        simt::Site site = simt::Site::here()) {
  simt::ldmatrix_x4(tiles, shared_row, false, site);
}
inline void ldmatrix_x4_transposed(std::uint32_t (&tiles)[4], const void* shared_row,
                                   simt::Site site = simt::Site::here()) {
  simt::ldmatrix_x4(tiles, shared_row, true, site);
}

inline void mma_s8(std::int32_t (&sums)[4], const std::uint32_t (&a)[4],
                   const std::uint32_t (&b)[2], simt::Site site = simt::Site::here()) {
  simt::mma_s8(sums, a, b, site);
}
inline void mma_f16(float (&sums)[4], const std::uint32_t (&a)[4], const std::uint32_t (&b)[2],
                    simt::Site site = simt::Site::here()) {
  simt::mma_f16(sums, a, b, site);
}

// Correctly rounded or nearly; subnormal results are 0.
inline float exp2_approx(float x) {
  const float result = std::exp2(x);
  return result < 1.17549435e-38f ? 0.0f : result;  // NaN stays
}

}  // namespace ptx
}  // namespace kernels
}  // namespace kvferry
