#include "reference_loops.hpp"

#ifdef __AVX512F__
#include <immintrin.h>

namespace kvferry::reference {
namespace {

struct Vector {
  static constexpr int kTileRows = 12;
  __m512 v;

  static Vector zero() { return {_mm512_setzero_ps()}; }
  static Vector load(const float* p) { return {_mm512_loadu_ps(p)}; }
  static Vector broadcast(float f) { return {_mm512_set1_ps(f)}; }
  static Vector multiply_add(const Vector& a, const Vector& b, const Vector& c) {
    return {_mm512_fmadd_ps(a.v, b.v, c.v)};
  }
  float sum() const {
    alignas(64) float lanes[kPanel];
    _mm512_store_ps(lanes, v);  // gcc 12 warns about its own header for the extracting intrinsics
    const __m256 eight = _mm256_add_ps(_mm256_load_ps(lanes), _mm256_load_ps(lanes + 8));
    const __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
    const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
  }
  void store(float* p) const { _mm512_storeu_ps(p, v); }
};
static_assert(Vector::kTileRows <= kMaxRows, "the caller's buffers");

}  // namespace

const Kernels* avx512_kernels() {
  static constexpr Kernels kTable = table_of<Vector>();
  return &kTable;
}

}  // namespace kvferry::reference
#else
namespace kvferry::reference {
const Kernels* avx512_kernels() {
  return nullptr;
}
}  // namespace kvferry::reference
#endif
