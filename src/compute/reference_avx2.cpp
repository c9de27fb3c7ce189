#include "reference_loops.hpp"

#if defined(__AVX2__) && defined(__FMA__)
#include <immintrin.h>

namespace kvferry::reference {
namespace {

struct Vector {
  static constexpr int kTileRows = 6;  // 12 of the 16 registers hold sums
  __m256 low, high;

  static Vector zero() { return {_mm256_setzero_ps(), _mm256_setzero_ps()}; }
  static Vector load(const float* p) { return {_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)}; }
  static Vector broadcast(float f) {
    const __m256 v = _mm256_set1_ps(f);
    return {v, v};
  }
  static Vector multiply_add(const Vector& a, const Vector& b, const Vector& c) {
    return {_mm256_fmadd_ps(a.low, b.low, c.low), _mm256_fmadd_ps(a.high, b.high, c.high)};
  }
  float sum() const {
    const __m256 eight = _mm256_add_ps(low, high);
    const __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
    const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
  }
  void store(float* p) const {
    _mm256_storeu_ps(p, low);
    _mm256_storeu_ps(p + 8, high);
  }
};

}  // namespace

const Kernels* avx2_kernels() {
  static constexpr Kernels kTable = table_of<Vector>();
  return &kTable;
}

}  // namespace kvferry::reference
#else
namespace kvferry::reference {
const Kernels* avx2_kernels() {
  return nullptr;
}
}  // namespace kvferry::reference
#endif
