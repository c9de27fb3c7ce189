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
  void store(float* p) const { _mm512_storeu_ps(p, v); }
};
static_assert(Vector::kTileRows <= kMaxRows, "the caller's buffers");

}  // namespace

const Kernels* avx512_kernels() {
  static constexpr Kernels table = table_of<Vector>();
  return &table;
}

}  // namespace kvferry::reference
#else
namespace kvferry::reference {
const Kernels* avx512_kernels() {
  return nullptr;
}
}  // namespace kvferry::reference
#endif
