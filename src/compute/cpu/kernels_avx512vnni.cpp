// AVX-512 with VNNI: compiled with -mavx512{f,bw,vl,dq,vnni} and called only where the machine has
// them.
#include "kernels_of.hpp"

#if defined(KVFERRY_CPU_AVX512VNNI)

#include <immintrin.h>

namespace kvferry::cpu {
namespace {

struct Avx512Vnni {
  using Floats = __m512;
  using Ints = __m512i;
  using Bytes64 = __m512i;  // unsigned

  static constexpr int kByteBias = 0;
  static constexpr int kMaxRows = 8;
  static constexpr int kMaxSums = 16;

  static KVFERRY_INLINE Floats zero() { return _mm512_setzero_ps(); }
  static KVFERRY_INLINE Floats set(float x) { return _mm512_set1_ps(x); }
  static KVFERRY_INLINE Floats load(const float* p) { return _mm512_loadu_ps(p); }
  static KVFERRY_INLINE void store(float* p, Floats x) { _mm512_storeu_ps(p, x); }
  static KVFERRY_INLINE Floats add(Floats a, Floats b) { return _mm512_add_ps(a, b); }
  static KVFERRY_INLINE Floats sub(Floats a, Floats b) { return _mm512_sub_ps(a, b); }
  static KVFERRY_INLINE Floats mul(Floats a, Floats b) { return _mm512_mul_ps(a, b); }
  static KVFERRY_INLINE Floats div(Floats a, Floats b) { return _mm512_div_ps(a, b); }
  static KVFERRY_INLINE Floats fma(Floats a, Floats b, Floats c) {
    return _mm512_fmadd_ps(a, b, c);
  }
  // The second operand where one is NaN.
  static KVFERRY_INLINE Floats min(Floats a, Floats b) { return _mm512_min_ps(a, b); }
  static KVFERRY_INLINE Floats max(Floats a, Floats b) { return _mm512_max_ps(a, b); }
  static KVFERRY_INLINE Floats round(Floats x) { return _mm512_roundscale_ps(x, 8); }
  static KVFERRY_INLINE Floats mul_power_of_2(Floats x, Floats n) { return _mm512_scalef_ps(x, n); }
  static KVFERRY_INLINE Floats zero_below(Floats x, float limit, Floats y) {
    return _mm512_maskz_mov_ps(_mm512_cmp_ps_mask(x, set(limit), _CMP_NLT_UQ), y);
  }
  static KVFERRY_INLINE float reduce_add(Floats x) {
    const __m256 a = _mm256_add_ps(_mm512_castps512_ps256(x), _mm512_extractf32x8_ps(x, 1));
    const __m128 b = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
    const __m128 c = _mm_add_ps(b, _mm_movehl_ps(b, b));
    return _mm_cvtss_f32(_mm_add_ss(c, _mm_movehdup_ps(c)));
  }
  static KVFERRY_INLINE float reduce_max(Floats x) { return _mm512_reduce_max_ps(x); }

  static KVFERRY_INLINE __m256i load_16_bits(const std::uint16_t* p) {
    return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
  }
  static KVFERRY_INLINE Floats load_half(const std::uint16_t* p) {
    return _mm512_cvtph_ps(load_16_bits(p));
  }
  static KVFERRY_INLINE Floats from_bfloat16(__m256i x) {
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(x), 16));
  }
  static KVFERRY_INLINE Floats load_bfloat16(const std::uint16_t* p) {
    return from_bfloat16(load_16_bits(p));
  }
  static KVFERRY_INLINE void store_half(std::uint16_t* p, Floats x) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), _mm512_cvtps_ph(x, 8));
  }
  static KVFERRY_INLINE void store_bfloat16(std::uint16_t* p, Floats x) {
    const __m512i u = _mm512_castps_si512(x);
    const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(u, 16), _mm512_set1_epi32(1));
    __m512i y = _mm512_srli_epi32(
        _mm512_add_epi32(u, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff))), 16);
    const __m512i quiet = _mm512_or_si512(_mm512_srli_epi32(u, 16), _mm512_set1_epi32(0x40));
    y = _mm512_mask_mov_epi32(y, _mm512_cmp_ps_mask(x, x, _CMP_UNORD_Q), quiet);
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), _mm512_cvtepi32_epi16(y));
  }
  static KVFERRY_INLINE float half_to_float(std::uint16_t h) { return _cvtsh_ss(h); }
  static KVFERRY_INLINE float bfloat16_to_float(std::uint16_t h) {
    return _mm_cvtss_f32(_mm_castsi128_ps(_mm_cvtsi32_si128(h << 16)));
  }

  static KVFERRY_INLINE Ints zero_ints() { return _mm512_setzero_si512(); }
  static KVFERRY_INLINE Ints set_int(std::int32_t x) { return _mm512_set1_epi32(x); }
  static KVFERRY_INLINE Ints add_ints(Ints a, Ints b) { return _mm512_add_epi32(a, b); }
  static KVFERRY_INLINE Ints sub_ints(Ints a, Ints b) { return _mm512_sub_epi32(a, b); }
  static KVFERRY_INLINE Ints max_ints(Ints a, Ints b) { return _mm512_max_epi32(a, b); }
  static KVFERRY_INLINE Ints shift_left_8(Ints a) { return _mm512_slli_epi32(a, 8); }
  static KVFERRY_INLINE Ints shift_right_8(Ints a) { return _mm512_srai_epi32(a, 8); }
  static KVFERRY_INLINE Floats to_float(Ints a) { return _mm512_cvtepi32_ps(a); }
  static KVFERRY_INLINE Ints round_to_int(Floats a) { return _mm512_cvtps_epi32(a); }
  static KVFERRY_INLINE Ints magnitude_bits(Floats a) {
    return _mm512_and_si512(_mm512_castps_si512(a), _mm512_set1_epi32(0x7fffffff));
  }
  static KVFERRY_INLINE std::int32_t reduce_add(Ints a) { return _mm512_reduce_add_epi32(a); }
  static KVFERRY_INLINE std::int32_t reduce_max(Ints a) { return _mm512_reduce_max_epi32(a); }
  static KVFERRY_INLINE void store_bytes(std::uint8_t* p, Ints a) {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm512_cvtepi32_epi8(a));
  }

  static KVFERRY_INLINE void prefetch(const void* p) {
    _mm_prefetch(static_cast<const char*>(p), _MM_HINT_T0);
  }
  static KVFERRY_INLINE Bytes64 load_bytes(const std::uint8_t* p) { return _mm512_loadu_si512(p); }
  static KVFERRY_INLINE void load_nibbles(const std::uint8_t* p, Bytes64& low, Bytes64& high) {
    const __m512i mask = _mm512_set1_epi8(15);
    const __m512i both = _mm512_loadu_si512(p);
    low = _mm512_and_si512(both, mask);
    high = _mm512_and_si512(_mm512_srli_epi16(both, 4), mask);
  }
  // acc + 16 rows of 4 bytes times the 4 signed bytes at x.
  static KVFERRY_INLINE Ints dot4(Ints acc, Bytes64 w, const std::uint8_t* x) {
    std::int32_t four;
    __builtin_memcpy(&four, x, sizeof four);
    return _mm512_dpbusd_epi32(acc, w, _mm512_set1_epi32(four));
  }
  static KVFERRY_INLINE Ints dot4_wide(Ints acc, Bytes64 w, const std::uint8_t* x) {
    return dot4(acc, w, x);
  }

  // [32 keys, stride] of F16 or BF16, 8 dimensions of it -> [8 dimensions, 16 + 16 keys] F32.
  template <bool kF16>
  static KVFERRY_INLINE void transpose_halves(const std::uint16_t* in, std::size_t stride,
                                              Floats (&keys0)[8], Floats (&keys16)[8]) {
    __m512i a[8], b[8];
    for (std::size_t i = 0; i < 8; ++i) {
      const auto piece = [&](std::size_t key) {
        return _mm_loadu_si128(reinterpret_cast<const __m128i*>(in + key * stride));
      };
      __m512i z = _mm512_castsi128_si512(piece(i));
      z = _mm512_inserti32x4(z, piece(i + 8), 1);
      z = _mm512_inserti32x4(z, piece(i + 16), 2);
      a[i] = _mm512_inserti32x4(z, piece(i + 24), 3);
    }
    for (int i = 0; i < 8; i += 2) {
      b[i] = _mm512_unpacklo_epi16(a[i], a[i + 1]);
      b[i + 1] = _mm512_unpackhi_epi16(a[i], a[i + 1]);
    }
    for (int i = 0; i < 8; i += 4) {
      a[i] = _mm512_unpacklo_epi32(b[i], b[i + 2]);
      a[i + 1] = _mm512_unpackhi_epi32(b[i], b[i + 2]);
      a[i + 2] = _mm512_unpacklo_epi32(b[i + 1], b[i + 3]);
      a[i + 3] = _mm512_unpackhi_epi32(b[i + 1], b[i + 3]);
    }
    for (int i = 0; i < 4; ++i) {
      b[2 * i] = _mm512_unpacklo_epi64(a[i], a[i + 4]);
      b[2 * i + 1] = _mm512_unpackhi_epi64(a[i], a[i + 4]);
    }
    for (int i = 0; i < 8; ++i) {
      const __m256i low = _mm512_castsi512_si256(b[i]);
      const __m256i high = _mm512_extracti64x4_epi64(b[i], 1);
      keys0[i] = kF16 ? _mm512_cvtph_ps(low) : from_bfloat16(low);
      keys16[i] = kF16 ? _mm512_cvtph_ps(high) : from_bfloat16(high);
    }
  }
};

}  // namespace

const Kernels& avx512vnni_kernels() {
  static constexpr Kernels kKernels = kernels_of<Avx512Vnni>(Isa::kAvx512Vnni);
  return kKernels;
}

}  // namespace kvferry::cpu

#endif
