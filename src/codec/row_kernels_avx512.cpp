// row_kernels.hpp with the AVX-512 of servers since 2017 (F, BW, DQ and VL).
#include "row_kernels.hpp"

#if defined(__AVX512BW__) && defined(__AVX512DQ__) && defined(__AVX512VL__)
#include <cstring>

#include <immintrin.h>

#include "vector_row_loops.hpp"

namespace kvferry {
namespace {

struct Avx512 {
  using Floats = __m512;
  // Of 32 and of 16 bits: one intrinsic type, told apart by these.
  struct Ints {
    __m512i v;
  };
  struct Shorts {
    __m512i v;
  };
  static constexpr std::size_t kFloats = 16;
  static constexpr std::size_t kShorts = 32;
  static constexpr std::size_t kProductRows = 6;

  static Floats load(const float* p) { return _mm512_loadu_ps(p); }
  static void store(Floats v, float* p) { _mm512_storeu_ps(p, v); }
  static Floats set(float x) { return _mm512_set1_ps(x); }
  static Floats add(Floats a, Floats b) { return _mm512_add_ps(a, b); }
  static Floats sub(Floats a, Floats b) { return _mm512_sub_ps(a, b); }
  static Floats mul(Floats a, Floats b) { return _mm512_mul_ps(a, b); }
  static Floats exclusive_or(Floats a, Floats b) { return _mm512_xor_ps(a, b); }
  static Floats clamp(Floats v, float most) {
    return _mm512_max_ps(_mm512_min_ps(v, set(most)), set(-most));
  }
  static Floats load_half(const std::uint8_t* p) {
    return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
  }
  static void store_half(Floats v, std::uint8_t* p) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(p),
                        _mm512_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
  }
  static Floats load_shorts_as_floats(const std::int16_t* p) {
    const __m256i v = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
    return _mm512_cvtepi32_ps(_mm512_cvtepi16_epi32(v));
  }

  // Pairs 0 1 8 9, 2 3 10 11, 4 5 12 13, 6 7 14 15.
  static Floats order_of_pairs(Floats v) {
    const __m512i order = _mm512_setr_epi64(0, 4, 1, 5, 2, 6, 3, 7);
    return _mm512_castpd_ps(_mm512_permutexvar_pd(order, _mm512_castps_pd(v)));
  }
  static void load_pairs(const float* p, Floats& a, Floats& b) {
    const Floats low = load(p);
    const Floats high = load(p + 16);
    a = _mm512_shuffle_ps(low, high, 0x88);
    b = _mm512_shuffle_ps(low, high, 0xdd);
  }
  static void store_pairs(Floats a, Floats b, float* p) {
    store(_mm512_unpacklo_ps(a, b), p);
    store(_mm512_unpackhi_ps(a, b), p + 16);
  }

  static Ints zero_ints() { return {_mm512_setzero_si512()}; }
  static Ints set_ints(std::int32_t x) { return {_mm512_set1_epi32(x)}; }
  static Ints load(const std::uint32_t* p) { return {_mm512_loadu_si512(p)}; }
  static Ints mul(Ints a, Ints b) { return {_mm512_mullo_epi32(a.v, b.v)}; }
  static std::uint32_t sum(Ints v) {
    // _mm512_reduce_add_epi32() adds as int, where a sum that wraps is undefined.
    const __m256i eight =
        _mm256_add_epi32(_mm512_castsi512_si256(v.v), _mm512_extracti64x4_epi64(v.v, 1));
    __m128i four = _mm_add_epi32(_mm256_castsi256_si128(eight), _mm256_extracti128_si256(eight, 1));
    four = _mm_add_epi32(four, _mm_shuffle_epi32(four, 0x4e));
    four = _mm_add_epi32(four, _mm_shuffle_epi32(four, 0xb1));
    return static_cast<std::uint32_t>(_mm_cvtsi128_si32(four));
  }
  static Ints add(Ints a, Ints b) { return {_mm512_add_epi32(a.v, b.v)}; }
  static Ints larger(Ints a, Ints b) { return {_mm512_max_epu32(a.v, b.v)}; }
  static Ints magnitude(Floats v) {
    return {_mm512_and_si512(_mm512_castps_si512(v), _mm512_set1_epi32(0x7fffffff))};
  }
  static bool any_above(Ints v, std::uint32_t limit) {
    return _mm512_cmpgt_epu32_mask(v.v, _mm512_set1_epi32(static_cast<std::int32_t>(limit))) != 0;
  }
  static void store_rounded(Floats low, Floats high, std::int16_t* p) {
    store_half_of(_mm512_cvtsepi32_epi16(_mm512_cvtps_epi32(low)), p);
    store_half_of(_mm512_cvtsepi32_epi16(_mm512_cvtps_epi32(high)), p + 16);
  }

  static Shorts load(const std::int16_t* p) { return {_mm512_loadu_si512(p)}; }
  static void store(Shorts v, std::int16_t* p) { _mm512_storeu_si512(p, v.v); }
  static Shorts load_bytes_as_shorts(const std::int8_t* p) {
    return {_mm512_cvtepi8_epi16(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)))};
  }
  static Shorts zero_shorts() { return {_mm512_setzero_si512()}; }
  static Shorts set(std::int16_t x) { return {_mm512_set1_epi16(x)}; }
  static Shorts add(Shorts a, Shorts b) { return {_mm512_add_epi16(a.v, b.v)}; }
  static Shorts sub(Shorts a, Shorts b) { return {_mm512_sub_epi16(a.v, b.v)}; }
  static Shorts add_saturated(Shorts a, Shorts b) { return {_mm512_adds_epi16(a.v, b.v)}; }
  static Shorts bitwise_and(Shorts a, Shorts b) { return {_mm512_and_si512(a.v, b.v)}; }
  static Shorts shift_left(Shorts v, std::uint32_t n) {
    return {_mm512_sll_epi16(v.v, _mm_cvtsi32_si128(static_cast<int>(n)))};
  }
  static Shorts shift_right(Shorts v, std::uint32_t n) {
    return {_mm512_sra_epi16(v.v, _mm_cvtsi32_si128(static_cast<int>(n)))};
  }
  static Shorts magnitude(Shorts v) { return {_mm512_abs_epi16(v.v)}; }
  static Shorts larger(Shorts a, Shorts b) { return {_mm512_max_epu16(a.v, b.v)}; }
  static bool any_above(Shorts v, std::uint16_t limit) {
    return _mm512_cmpgt_epu16_mask(v.v, _mm512_set1_epi16(static_cast<std::int16_t>(limit))) != 0;
  }
  static Shorts add_where_equal(Shorts counts, Shorts v, std::int16_t x) {
    const __mmask32 equal = _mm512_cmpeq_epi16_mask(v.v, _mm512_set1_epi16(x));
    return {_mm512_mask_add_epi16(counts.v, equal, counts.v, _mm512_set1_epi16(1))};
  }
  static std::uint32_t sum(Shorts v) {
    return sum(Ints{_mm512_madd_epi16(v.v, _mm512_set1_epi16(1))});
  }
  static std::uint32_t largest(Shorts v) {
    const __m256i halves =
        _mm256_max_epu16(_mm512_castsi512_si256(v.v), _mm512_extracti64x4_epi64(v.v, 1));
    const __m128i most =
        _mm_max_epu16(_mm256_castsi256_si128(halves), _mm256_extracti128_si256(halves, 1));
    // The least of what is missing to the largest number.
    const __m128i least = _mm_minpos_epu16(_mm_xor_si128(most, _mm_set1_epi16(-1)));
    return ~static_cast<std::uint32_t>(_mm_cvtsi128_si32(least)) & 0xffff;
  }

  static void store_low_bytes(Shorts a, Shorts b, std::uint8_t* p) {
    store_half_of(_mm512_cvtepi16_epi8(a.v), p);
    store_half_of(_mm512_cvtepi16_epi8(b.v), p + 32);
  }
  static void store_low_bytes(Ints a, Ints b, std::uint8_t* p) {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm512_cvtepi32_epi8(a.v));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(p + 16), _mm512_cvtepi32_epi8(b.v));
  }
  static Ints pair_sums(Shorts v) {
    return {_mm512_add_epi32(_mm512_and_si512(v.v, _mm512_set1_epi32(0xffff)),
                             _mm512_srli_epi32(v.v, 16))};
  }
  static Ints pair_products(Shorts v, std::int32_t width) {
    return {_mm512_madd_epi16(v.v, _mm512_set1_epi32(width | 1 << 16))};
  }
  static void store_signs(Shorts v, std::uint8_t* p) {
    const std::uint32_t mask = _mm512_movepi16_mask(v.v);
    std::memcpy(p, &mask, sizeof mask);
  }
  static Shorts lanes_of_bits(const std::uint8_t* p) {
    std::uint32_t mask;
    std::memcpy(&mask, p, sizeof mask);
    return {_mm512_movm_epi16(mask)};
  }

 private:
  template <typename T>
  static void store_half_of(__m256i v, T* p) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), v);
  }
};

}  // namespace

const RowKernels* avx512_row_kernels() {
  static constexpr RowKernels kKernels = VectorRowLoops<Avx512>::kernels("avx512");
  return &kKernels;
}

}  // namespace kvferry
#else
namespace kvferry {
const RowKernels* avx512_row_kernels() {
  return nullptr;
}
}  // namespace kvferry
#endif
