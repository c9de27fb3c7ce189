// row_kernels.hpp with AVX2 and F16C.
#include "row_kernels.hpp"

#if defined(__AVX2__) && defined(__F16C__)
#include <cstring>

#include <immintrin.h>

#include "vector_row_loops.hpp"

namespace kvferry {
namespace {

struct Avx2 {
  using Floats = __m256;
  // Of 32 and of 16 bits: one intrinsic type, told apart by these.
  struct Ints {
    __m256i v;
  };
  struct Shorts {
    __m256i v;
  };
  static constexpr std::size_t kFloats = 8;
  static constexpr std::size_t kShorts = 16;
  static constexpr std::size_t kProductRows = 6;  // 34 GMAC/s on a Zen 4; the plain loop has 10

  static Floats load(const float* p) { return _mm256_loadu_ps(p); }
  static void store(Floats v, float* p) { _mm256_storeu_ps(p, v); }
  static Floats set(float x) { return _mm256_set1_ps(x); }
  static Floats add(Floats a, Floats b) { return _mm256_add_ps(a, b); }
  static Floats sub(Floats a, Floats b) { return _mm256_sub_ps(a, b); }
  static Floats mul(Floats a, Floats b) { return _mm256_mul_ps(a, b); }
  static Floats exclusive_or(Floats a, Floats b) { return _mm256_xor_ps(a, b); }
  static Floats clamp(Floats v, float most) {
    return _mm256_max_ps(_mm256_min_ps(v, set(most)), set(-most));
  }
  static Floats load_half(const std::uint8_t* p) {
    return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
  }
  static void store_half(Floats v, std::uint8_t* p) {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(p),
                     _mm256_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
  }
  static Floats load_shorts_as_floats(const std::int16_t* p) {
    const __m128i v = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
    return _mm256_cvtepi32_ps(_mm256_cvtepi16_epi32(v));
  }

  // Pairs 0 1 4 5 2 3 6 7.
  static Floats order_of_pairs(Floats v) {
    return _mm256_castpd_ps(_mm256_permute4x64_pd(_mm256_castps_pd(v), 0xd8));
  }
  static void load_pairs(const float* p, Floats& a, Floats& b) {
    const Floats low = load(p);
    const Floats high = load(p + 8);
    a = _mm256_shuffle_ps(low, high, 0x88);
    b = _mm256_shuffle_ps(low, high, 0xdd);
  }
  static void store_pairs(Floats a, Floats b, float* p) {
    store(_mm256_unpacklo_ps(a, b), p);
    store(_mm256_unpackhi_ps(a, b), p + 8);
  }

  static Ints zero_ints() { return {_mm256_setzero_si256()}; }
  static Ints set_ints(std::int32_t x) { return {_mm256_set1_epi32(x)}; }
  static Ints load(const std::uint32_t* p) {
    return {_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p))};
  }
  static Ints mul(Ints a, Ints b) { return {_mm256_mullo_epi32(a.v, b.v)}; }
  static std::uint32_t sum(Ints v) {
    __m128i sums = _mm_add_epi32(_mm256_castsi256_si128(v.v), _mm256_extracti128_si256(v.v, 1));
    sums = _mm_add_epi32(sums, _mm_shuffle_epi32(sums, 0x4e));
    sums = _mm_add_epi32(sums, _mm_shuffle_epi32(sums, 0xb1));
    return static_cast<std::uint32_t>(_mm_cvtsi128_si32(sums));
  }
  static Ints add(Ints a, Ints b) { return {_mm256_add_epi32(a.v, b.v)}; }
  static Ints larger(Ints a, Ints b) { return {_mm256_max_epu32(a.v, b.v)}; }
  static Ints magnitude(Floats v) {
    return {_mm256_and_si256(_mm256_castps_si256(v), _mm256_set1_epi32(0x7fffffff))};
  }
  static bool any_above(Ints v, std::uint32_t limit) {
    const __m256i most = _mm256_set1_epi32(static_cast<std::int32_t>(limit));
    const __m256i within = _mm256_cmpeq_epi32(_mm256_max_epu32(v.v, most), most);
    return _mm256_movemask_epi8(within) != -1;
  }
  static void store_rounded(Floats low, Floats high, std::int16_t* p) {
    const __m256i packed = _mm256_packs_epi32(_mm256_cvtps_epi32(low), _mm256_cvtps_epi32(high));
    store({_mm256_permute4x64_epi64(packed, 0xd8)}, p);
  }

  static Shorts load(const std::int16_t* p) {
    return {_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p))};
  }
  static void store(Shorts v, std::int16_t* p) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), v.v);
  }
  static Shorts load_bytes_as_shorts(const std::int8_t* p) {
    return {_mm256_cvtepi8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)))};
  }
  static Shorts zero_shorts() { return {_mm256_setzero_si256()}; }
  static Shorts set(std::int16_t x) { return {_mm256_set1_epi16(x)}; }
  static Shorts add(Shorts a, Shorts b) { return {_mm256_add_epi16(a.v, b.v)}; }
  static Shorts sub(Shorts a, Shorts b) { return {_mm256_sub_epi16(a.v, b.v)}; }
  static Shorts add_saturated(Shorts a, Shorts b) { return {_mm256_adds_epi16(a.v, b.v)}; }
  static Shorts bitwise_and(Shorts a, Shorts b) { return {_mm256_and_si256(a.v, b.v)}; }
  static Shorts shift_left(Shorts v, std::uint32_t n) {
    return {_mm256_sll_epi16(v.v, _mm_cvtsi32_si128(static_cast<int>(n)))};
  }
  static Shorts shift_right(Shorts v, std::uint32_t n) {
    return {_mm256_sra_epi16(v.v, _mm_cvtsi32_si128(static_cast<int>(n)))};
  }
  static Shorts magnitude(Shorts v) { return {_mm256_abs_epi16(v.v)}; }
  static Shorts larger(Shorts a, Shorts b) { return {_mm256_max_epu16(a.v, b.v)}; }
  static bool any_above(Shorts v, std::uint16_t limit) {
    const __m256i most = _mm256_set1_epi16(static_cast<std::int16_t>(limit));
    const __m256i within = _mm256_cmpeq_epi16(_mm256_max_epu16(v.v, most), most);
    return _mm256_movemask_epi8(within) != -1;
  }
  static Shorts add_where_equal(Shorts counts, Shorts v, std::int16_t x) {
    return {_mm256_sub_epi16(counts.v, _mm256_cmpeq_epi16(v.v, _mm256_set1_epi16(x)))};
  }
  static std::uint32_t sum(Shorts v) {
    return sum(Ints{_mm256_madd_epi16(v.v, _mm256_set1_epi16(1))});
  }
  static std::uint32_t largest(Shorts v) {
    const __m128i most =
        _mm_max_epu16(_mm256_castsi256_si128(v.v), _mm256_extracti128_si256(v.v, 1));
    // The least of what is missing to the largest number.
    const __m128i least = _mm_minpos_epu16(_mm_xor_si128(most, _mm_set1_epi16(-1)));
    return ~static_cast<std::uint32_t>(_mm_cvtsi128_si32(least)) & 0xffff;
  }

  static void store_low_bytes(Shorts a, Shorts b, std::uint8_t* p) {
    const __m256i low = _mm256_set1_epi16(0xff);
    const __m256i packed =
        _mm256_packus_epi16(_mm256_and_si256(a.v, low), _mm256_and_si256(b.v, low));
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), _mm256_permute4x64_epi64(packed, 0xd8));
  }
  // Of symbols, which have no other bytes.
  static void store_low_bytes(Ints a, Ints b, std::uint8_t* p) {
    // Four of a, four of b, and the same again, in each half.
    const __m256i words = _mm256_packs_epi32(a.v, b.v);
    const __m256i bytes = _mm256_permutevar8x32_epi32(_mm256_packus_epi16(words, words),
                                                      _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm256_castsi256_si128(bytes));
  }
  static Ints pair_sums(Shorts v) {
    return {_mm256_add_epi32(_mm256_and_si256(v.v, _mm256_set1_epi32(0xffff)),
                             _mm256_srli_epi32(v.v, 16))};
  }
  static Ints pair_products(Shorts v, std::int32_t width) {
    return {_mm256_madd_epi16(v.v, _mm256_set1_epi32(width | 1 << 16))};
  }
  static void store_signs(Shorts v, std::uint8_t* p) {
    const __m128i packed =
        _mm_packs_epi16(_mm256_castsi256_si128(v.v), _mm256_extracti128_si256(v.v, 1));
    const auto mask = static_cast<std::uint16_t>(_mm_movemask_epi8(packed));
    std::memcpy(p, &mask, sizeof mask);
  }
  static Shorts lanes_of_bits(const std::uint8_t* p) {
    const __m256i places = _mm256_setr_epi16(1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048,
                                             4096, 8192, 16384, -32768);
    std::int16_t bits;
    std::memcpy(&bits, p, sizeof bits);
    return {_mm256_cmpeq_epi16(_mm256_and_si256(_mm256_set1_epi16(bits), places), places)};
  }
};

}  // namespace

const RowKernels* avx2_row_kernels() {
  static constexpr RowKernels kKernels = VectorRowLoops<Avx2>::kernels("avx2");
  return &kKernels;
}

}  // namespace kvferry
#else
namespace kvferry {
const RowKernels* avx2_row_kernels() {
  return nullptr;
}
}  // namespace kvferry
#endif
