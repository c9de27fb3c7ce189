// Eight 16-bit integers in a vector, and the transposition of eight of these.
#pragma once

#include <cstdint>

#if defined(__SSE2__)
#include <emmintrin.h>
#else
#include <arm_neon.h>
#endif

namespace kvferry {
namespace {  // NOLINT(google-build-namespaces): as in row_loops.hpp

#if defined(__SSE2__)
using EightShorts = __m128i;

inline EightShorts load8(const std::int16_t* p) {
  return _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
}
inline void store8(EightShorts v, std::int16_t* p) {
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p), v);
}
inline EightShorts zip_low(EightShorts a, EightShorts b) {
  return _mm_unpacklo_epi16(a, b);
}
inline EightShorts zip_high(EightShorts a, EightShorts b) {
  return _mm_unpackhi_epi16(a, b);
}
#else
using EightShorts = int16x8_t;

inline EightShorts load8(const std::int16_t* p) {
  return vld1q_s16(p);
}
inline void store8(EightShorts v, std::int16_t* p) {
  vst1q_s16(p, v);
}
inline EightShorts zip_low(EightShorts a, EightShorts b) {
  return vzip1q_s16(a, b);
}
inline EightShorts zip_high(EightShorts a, EightShorts b) {
  return vzip2q_s16(a, b);
}
#endif

// Out of line it would go through memory: the compiler has to see the eight registers.
__attribute__((always_inline)) inline void transpose(EightShorts (&v)[8]) {
  for (int round = 0; round < 3; ++round) {
    EightShorts a[8];
    for (int i = 0; i < 4; ++i) {
      a[2 * i] = zip_low(v[i], v[i + 4]);
      a[2 * i + 1] = zip_high(v[i], v[i + 4]);
    }
    for (int i = 0; i < 8; ++i) v[i] = a[i];
  }
}

}  // namespace
}  // namespace kvferry
