#include "reference_loops.hpp"

namespace kvferry::reference {
namespace {

struct Vector {
  static constexpr int kTileRows = 4;
  float v[kPanel];

  static Vector zero() { return Vector{}; }
  static Vector load(const float* p) {
    Vector r;
    for (int i = 0; i < kPanel; ++i) r.v[i] = p[i];
    return r;
  }
  static Vector broadcast(float f) {
    Vector r;
    for (float& lane : r.v) lane = f;
    return r;
  }
  static Vector multiply_add(const Vector& a, const Vector& b, const Vector& c) {
    Vector r;
    for (int i = 0; i < kPanel; ++i) r.v[i] = a.v[i] * b.v[i] + c.v[i];
    return r;
  }
  float sum() const {
    Vector r = *this;
    for (int half = kPanel / 2; half > 0; half /= 2) {
      for (int i = 0; i < half; ++i) r.v[i] += r.v[i + half];
    }
    return r.v[0];
  }
  void store(float* p) const {
    for (int i = 0; i < kPanel; ++i) p[i] = v[i];
  }
};

}  // namespace

const Kernels* portable_kernels() {
  static constexpr Kernels kTable = table_of<Vector>();
  return &kTable;
}

}  // namespace kvferry::reference
