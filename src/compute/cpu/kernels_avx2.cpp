// AVX2 with FMA and F16C: compiled with -mavx2 -mfma -mf16c and called only where the machine has
// them.
#include "kernels_of.hpp"

#if defined(KVFERRY_CPU_AVX2)

#include <immintrin.h>

namespace kvferry::cpu {
namespace {

struct Avx2 {
  struct Floats {
    __m256 low, high;
  };
  struct Ints {
    __m256i low, high;
  };
  struct Bytes64 {  // unsigned
    __m256i low, high;
  };

  static constexpr int kByteBias = 0;
  static constexpr int kMaxRows = 4;
  static constexpr int kMaxSums = 4;

  static KVFERRY_INLINE Floats zero() { return {_mm256_setzero_ps(), _mm256_setzero_ps()}; }
  static KVFERRY_INLINE Floats set(float x) { return {_mm256_set1_ps(x), _mm256_set1_ps(x)}; }
  static KVFERRY_INLINE Floats load(const float* p) {
    return {_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)};
  }
  static KVFERRY_INLINE void store(float* p, Floats x) {
    _mm256_storeu_ps(p, x.low);
    _mm256_storeu_ps(p + 8, x.high);
  }
  static KVFERRY_INLINE Floats add(Floats a, Floats b) {
    return {_mm256_add_ps(a.low, b.low), _mm256_add_ps(a.high, b.high)};
  }
  static KVFERRY_INLINE Floats sub(Floats a, Floats b) {
    return {_mm256_sub_ps(a.low, b.low), _mm256_sub_ps(a.high, b.high)};
  }
  static KVFERRY_INLINE Floats mul(Floats a, Floats b) {
    return {_mm256_mul_ps(a.low, b.low), _mm256_mul_ps(a.high, b.high)};
  }
  static KVFERRY_INLINE Floats div(Floats a, Floats b) {
    return {_mm256_div_ps(a.low, b.low), _mm256_div_ps(a.high, b.high)};
  }
  static KVFERRY_INLINE Floats fma(Floats a, Floats b, Floats c) {
    return {_mm256_fmadd_ps(a.low, b.low, c.low), _mm256_fmadd_ps(a.high, b.high, c.high)};
  }
  // The second operand where one is NaN.
  static KVFERRY_INLINE Floats min(Floats a, Floats b) {
    return {_mm256_min_ps(a.low, b.low), _mm256_min_ps(a.high, b.high)};
  }
  static KVFERRY_INLINE Floats max(Floats a, Floats b) {
    return {_mm256_max_ps(a.low, b.low), _mm256_max_ps(a.high, b.high)};
  }
  static KVFERRY_INLINE Floats round(Floats x) {
    return {_mm256_round_ps(x.low, 8), _mm256_round_ps(x.high, 8)};
  }
  static KVFERRY_INLINE __m256 power_of_2(__m256 n) {
    const __m256i biased = _mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127));
    return _mm256_castsi256_ps(_mm256_slli_epi32(biased, 23));
  }
  static KVFERRY_INLINE Floats mul_power_of_2(Floats x, Floats n) {
    return mul(x, {power_of_2(n.low), power_of_2(n.high)});
  }
  static KVFERRY_INLINE Floats zero_below(Floats x, float limit, Floats y) {
    const __m256 bound = _mm256_set1_ps(limit);
    return {_mm256_and_ps(_mm256_cmp_ps(x.low, bound, _CMP_NLT_UQ), y.low),
            _mm256_and_ps(_mm256_cmp_ps(x.high, bound, _CMP_NLT_UQ), y.high)};
  }
  static KVFERRY_INLINE float reduce_add(Floats x) {
    const __m256 a = _mm256_add_ps(x.low, x.high);
    const __m128 b = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
    const __m128 c = _mm_add_ps(b, _mm_movehl_ps(b, b));
    return _mm_cvtss_f32(_mm_add_ss(c, _mm_movehdup_ps(c)));
  }
  static KVFERRY_INLINE float reduce_max(Floats x) {
    const __m256 a = _mm256_max_ps(x.low, x.high);
    const __m128 b = _mm_max_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
    const __m128 c = _mm_max_ps(b, _mm_movehl_ps(b, b));
    return _mm_cvtss_f32(_mm_max_ss(c, _mm_movehdup_ps(c)));
  }

  static KVFERRY_INLINE __m128i load_8(const std::uint16_t* p) {
    return _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
  }
  static KVFERRY_INLINE void store_8(std::uint16_t* p, __m128i x) {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(p), x);
  }
  static KVFERRY_INLINE Floats load_half(const std::uint16_t* p) {
    return {_mm256_cvtph_ps(load_8(p)), _mm256_cvtph_ps(load_8(p + 8))};
  }
  static KVFERRY_INLINE __m256 from_bfloat16(__m128i x) {
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(x), 16));
  }
  static KVFERRY_INLINE Floats load_bfloat16(const std::uint16_t* p) {
    return {from_bfloat16(load_8(p)), from_bfloat16(load_8(p + 8))};
  }
  static KVFERRY_INLINE void store_half(std::uint16_t* p, Floats x) {
    store_8(p, _mm256_cvtps_ph(x.low, 8));
    store_8(p + 8, _mm256_cvtps_ph(x.high, 8));
  }
  static KVFERRY_INLINE __m256i to_bfloat16_bits(__m256 x) {
    const __m256i u = _mm256_castps_si256(x);
    const __m256i top = _mm256_srli_epi32(u, 16);
    const __m256i odd = _mm256_and_si256(top, _mm256_set1_epi32(1));
    const __m256i y = _mm256_srli_epi32(
        _mm256_add_epi32(u, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff))), 16);
    const __m256i quiet = _mm256_or_si256(top, _mm256_set1_epi32(0x40));
    return _mm256_blendv_epi8(y, quiet, _mm256_castps_si256(_mm256_cmp_ps(x, x, _CMP_UNORD_Q)));
  }
  static KVFERRY_INLINE void store_bfloat16(std::uint16_t* p, Floats x) {
    const __m256i packed = _mm256_permute4x64_epi64(
        _mm256_packus_epi32(to_bfloat16_bits(x.low), to_bfloat16_bits(x.high)), 0xd8);
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), packed);
  }
  static KVFERRY_INLINE float half_to_float(std::uint16_t h) { return _cvtsh_ss(h); }
  static KVFERRY_INLINE float bfloat16_to_float(std::uint16_t h) {
    return _mm_cvtss_f32(_mm_castsi128_ps(_mm_cvtsi32_si128(h << 16)));
  }

  static KVFERRY_INLINE Ints zero_ints() { return set_int(0); }
  static KVFERRY_INLINE Ints set_int(std::int32_t x) {
    return {_mm256_set1_epi32(x), _mm256_set1_epi32(x)};
  }
  static KVFERRY_INLINE Ints add_ints(Ints a, Ints b) {
    return {_mm256_add_epi32(a.low, b.low), _mm256_add_epi32(a.high, b.high)};
  }
  static KVFERRY_INLINE Ints sub_ints(Ints a, Ints b) {
    return {_mm256_sub_epi32(a.low, b.low), _mm256_sub_epi32(a.high, b.high)};
  }
  static KVFERRY_INLINE Ints max_ints(Ints a, Ints b) {
    return {_mm256_max_epi32(a.low, b.low), _mm256_max_epi32(a.high, b.high)};
  }
  static KVFERRY_INLINE Ints shift_left_8(Ints a) {
    return {_mm256_slli_epi32(a.low, 8), _mm256_slli_epi32(a.high, 8)};
  }
  static KVFERRY_INLINE Ints shift_right_8(Ints a) {
    return {_mm256_srai_epi32(a.low, 8), _mm256_srai_epi32(a.high, 8)};
  }
  static KVFERRY_INLINE Floats to_float(Ints a) {
    return {_mm256_cvtepi32_ps(a.low), _mm256_cvtepi32_ps(a.high)};
  }
  static KVFERRY_INLINE Ints round_to_int(Floats a) {
    return {_mm256_cvtps_epi32(a.low), _mm256_cvtps_epi32(a.high)};
  }
  static KVFERRY_INLINE Ints magnitude_bits(Floats a) {
    const __m256i mask = _mm256_set1_epi32(0x7fffffff);
    return {_mm256_and_si256(_mm256_castps_si256(a.low), mask),
            _mm256_and_si256(_mm256_castps_si256(a.high), mask)};
  }
  static KVFERRY_INLINE std::int32_t reduce_add(Ints x) {
    const __m256i a = _mm256_add_epi32(x.low, x.high);
    const __m128i b = _mm_add_epi32(_mm256_castsi256_si128(a), _mm256_extracti128_si256(a, 1));
    const __m128i c = _mm_add_epi32(b, _mm_shuffle_epi32(b, 0x4e));
    return _mm_cvtsi128_si32(_mm_add_epi32(c, _mm_shuffle_epi32(c, 0xb1)));
  }
  static KVFERRY_INLINE std::int32_t reduce_max(Ints x) {
    const __m256i a = _mm256_max_epi32(x.low, x.high);
    const __m128i b = _mm_max_epi32(_mm256_castsi256_si128(a), _mm256_extracti128_si256(a, 1));
    const __m128i c = _mm_max_epi32(b, _mm_shuffle_epi32(b, 0x4e));
    return _mm_cvtsi128_si32(_mm_max_epi32(c, _mm_shuffle_epi32(c, 0xb1)));
  }
  static KVFERRY_INLINE void store_bytes(std::uint8_t* p, Ints a) {
    const __m256i words = _mm256_permute4x64_epi64(_mm256_packs_epi32(a.low, a.high), 0xd8);
    const __m128i bytes =
        _mm_packs_epi16(_mm256_castsi256_si128(words), _mm256_extracti128_si256(words, 1));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(p), bytes);
  }

  static KVFERRY_INLINE void prefetch(const void* p) {
    _mm_prefetch(static_cast<const char*>(p), _MM_HINT_T0);
  }
  static KVFERRY_INLINE Bytes64 load_bytes(const std::uint8_t* p) {
    return {_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)),
            _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p + 32))};
  }
  static KVFERRY_INLINE void load_nibbles(const std::uint8_t* p, Bytes64& low, Bytes64& high) {
    const __m256i mask = _mm256_set1_epi8(15);
    const Bytes64 both = load_bytes(p);
    low = {_mm256_and_si256(both.low, mask), _mm256_and_si256(both.high, mask)};
    high = {_mm256_and_si256(_mm256_srli_epi16(both.low, 4), mask),
            _mm256_and_si256(_mm256_srli_epi16(both.high, 4), mask)};
  }
  static KVFERRY_INLINE __m256i set_four(const std::uint8_t* x) {
    std::int32_t four;
    __builtin_memcpy(&four, x, sizeof four);
    return _mm256_set1_epi32(four);
  }
  // acc + 16 rows of 4 bytes below 128 times the 4 signed bytes at x. A pair's sum fits 16 bits.
  static KVFERRY_INLINE Ints dot4(Ints acc, Bytes64 w, const std::uint8_t* x) {
    const __m256i four = set_four(x);
    const __m256i ones = _mm256_set1_epi16(1);
    return {
        _mm256_add_epi32(acc.low, _mm256_madd_epi16(_mm256_maddubs_epi16(w.low, four), ones)),
        _mm256_add_epi32(acc.high, _mm256_madd_epi16(_mm256_maddubs_epi16(w.high, four), ones))};
  }
  // The same for any bytes: even and odd ones as 16-bit numbers.
  static KVFERRY_INLINE Ints dot4_wide(Ints acc, Bytes64 w, const std::uint8_t* x) {
    const __m256i four = set_four(x);
    const __m256i even = _mm256_srai_epi16(_mm256_slli_epi16(four, 8), 8);
    const __m256i odd = _mm256_srai_epi16(four, 8);
    return {add_wide(acc.low, w.low, even, odd), add_wide(acc.high, w.high, even, odd)};
  }
  static KVFERRY_INLINE __m256i add_wide(__m256i acc, __m256i w, __m256i even, __m256i odd) {
    const __m256i w_even = _mm256_and_si256(w, _mm256_set1_epi16(0xff));
    const __m256i w_odd = _mm256_srli_epi16(w, 8);
    return _mm256_add_epi32(
        acc, _mm256_add_epi32(_mm256_madd_epi16(w_even, even), _mm256_madd_epi16(w_odd, odd)));
  }

  // [32 keys, stride] of F16 or BF16, 8 dimensions of it -> [8 dimensions, 16 + 16 keys] F32.
  template <bool kF16>
  static KVFERRY_INLINE void transpose_halves(const std::uint16_t* in, std::size_t stride,
                                              Floats (&keys0)[8], Floats (&keys16)[8]) {
    transpose_16<kF16>(in, stride, keys0);
    transpose_16<kF16>(in + 16 * stride, stride, keys16);
  }
  template <bool kF16>
  static KVFERRY_INLINE void transpose_16(const std::uint16_t* in, std::size_t stride,
                                          Floats (&keys)[8]) {
    __m256i a[8], b[8];
    for (std::size_t i = 0; i < 8; ++i) {
      a[i] = _mm256_inserti128_si256(_mm256_castsi128_si256(load_8(in + i * stride)),
                                     load_8(in + (i + 8) * stride), 1);
    }
    for (int i = 0; i < 8; i += 2) {
      b[i] = _mm256_unpacklo_epi16(a[i], a[i + 1]);
      b[i + 1] = _mm256_unpackhi_epi16(a[i], a[i + 1]);
    }
    for (int i = 0; i < 8; i += 4) {
      a[i] = _mm256_unpacklo_epi32(b[i], b[i + 2]);
      a[i + 1] = _mm256_unpackhi_epi32(b[i], b[i + 2]);
      a[i + 2] = _mm256_unpacklo_epi32(b[i + 1], b[i + 3]);
      a[i + 3] = _mm256_unpackhi_epi32(b[i + 1], b[i + 3]);
    }
    for (int i = 0; i < 4; ++i) {
      b[2 * i] = _mm256_unpacklo_epi64(a[i], a[i + 4]);
      b[2 * i + 1] = _mm256_unpackhi_epi64(a[i], a[i + 4]);
    }
    for (std::size_t i = 0; i < 8; ++i) {
      const __m128i low = _mm256_castsi256_si128(b[i]);
      const __m128i high = _mm256_extracti128_si256(b[i], 1);
      keys[i] = {kF16 ? _mm256_cvtph_ps(low) : from_bfloat16(low),
                 kF16 ? _mm256_cvtph_ps(high) : from_bfloat16(high)};
    }
  }
};

}  // namespace

const Kernels& avx2_kernels() {
  static constexpr Kernels kKernels = kernels_of<Avx2>(Isa::kAvx2);
  return kKernels;
}

}  // namespace kvferry::cpu

#endif
