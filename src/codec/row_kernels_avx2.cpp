// row_kernels.hpp with AVX2 and F16C: the hot loops by hand, the same bits as row_loops.hpp.
#include "row_kernels.hpp"

#if defined(__AVX2__) && defined(__F16C__)
#include <immintrin.h>

#include "row_loops.hpp"

namespace kvferry {
namespace {  // NOLINT(google-build-namespaces): internal linkage, as in row_loops.hpp

void load_avx2(ElementType type, const std::uint8_t* row, std::size_t count, float* floats) {
  std::size_t i = 0;
  if (type == ElementType::kF16) {
    for (; i + 8 <= count; i += 8) {
      const __m128i half = _mm_loadu_si128(reinterpret_cast<const __m128i*>(row + 2 * i));
      _mm256_storeu_ps(floats + i, _mm256_cvtph_ps(half));
    }
  }
  load(type, row + i * size_of(type), count - i, floats + i);
}

void store_avx2(ElementType type, const float* floats, std::size_t count, std::uint8_t* row) {
  std::size_t i = 0;
  if (type == ElementType::kF16) {
    const __m256 most = _mm256_set1_ps(kLargestHalf);
    const __m256 least = _mm256_set1_ps(-kLargestHalf);
    for (; i + 8 <= count; i += 8) {
      const __m256 v = _mm256_max_ps(_mm256_min_ps(_mm256_loadu_ps(floats + i), most), least);
      const __m128i half = _mm256_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
      _mm_storeu_si128(reinterpret_cast<__m128i*>(row + 2 * i), half);
    }
  }
  store(type, floats + i, count - i, row + i * size_of(type));
}

// Eight pairs (a, b) of neighbours.
void rotate_interleaved(const RowRotation& r, bool inverse, float* row) {
  const __m256 sign = _mm256_set1_ps(inverse ? -0.0f : 0.0f);
  std::size_t i = 0;
  for (; i + 8 <= r.pairs; i += 8) {
    // c0 c0 c1 c1 c4 c4 c5 c5 and so on: in halves of four pairs each after the permutation.
    const auto doubled = [](const float* p, __m256& low, __m256& high) {
      const __m256 v =
          _mm256_castpd_ps(_mm256_permute4x64_pd(_mm256_castps_pd(_mm256_loadu_ps(p)), 0xd8));
      low = _mm256_unpacklo_ps(v, v);
      high = _mm256_unpackhi_ps(v, v);
    };
    __m256 cos[2];
    __m256 sin[2];
    doubled(r.cos + i, cos[0], cos[1]);
    doubled(r.sin + i, sin[0], sin[1]);
    for (__m256& s : sin) s = _mm256_xor_ps(s, sign);
    float* at = row + 2 * i;
    for (std::size_t h = 0; h < r.heads; ++h, at += r.head_dim) {
      for (std::size_t n = 0; n < 2; ++n) {
        const __m256 v = _mm256_loadu_ps(at + 8 * n);
        const __m256 swapped = _mm256_permute_ps(v, 0xb1);
        _mm256_storeu_ps(
            at + 8 * n, _mm256_addsub_ps(_mm256_mul_ps(v, cos[n]), _mm256_mul_ps(swapped, sin[n])));
      }
    }
  }
  if (i == r.pairs) return;
  const RowRotation rest = {r.cos + i, r.sin + i, r.pairs - i, r.heads, r.head_dim, r.layout};
  rotate(rest, inverse, row + 2 * i);
}

void rotate_split(const RowRotation& r, bool inverse, float* row) {
  const __m256 sign = _mm256_set1_ps(inverse ? -0.0f : 0.0f);
  std::size_t i = 0;
  for (; i + 8 <= r.pairs; i += 8) {
    const __m256 cos = _mm256_loadu_ps(r.cos + i);
    const __m256 sin = _mm256_xor_ps(_mm256_loadu_ps(r.sin + i), sign);
    float* at = row + i;
    for (std::size_t h = 0; h < r.heads; ++h, at += r.head_dim) {
      const __m256 a = _mm256_loadu_ps(at);
      const __m256 b = _mm256_loadu_ps(at + r.pairs);
      _mm256_storeu_ps(at, _mm256_sub_ps(_mm256_mul_ps(a, cos), _mm256_mul_ps(b, sin)));
      _mm256_storeu_ps(at + r.pairs, _mm256_add_ps(_mm256_mul_ps(a, sin), _mm256_mul_ps(b, cos)));
    }
  }
  for (; i < r.pairs; ++i) {
    const float s = inverse ? -r.sin[i] : r.sin[i];
    float* at = row + i;
    for (std::size_t h = 0; h < r.heads; ++h, at += r.head_dim) {
      const float a = at[0];
      const float b = at[r.pairs];
      at[0] = a * r.cos[i] - b * s;
      at[r.pairs] = a * s + b * r.cos[i];
    }
  }
}

void rotate_avx2(const RowRotation& r, bool inverse, float* row) {
  if (r.layout == RopeLayout::kInterleaved) {
    rotate_interleaved(r, inverse, row);
  } else {
    rotate_split(r, inverse, row);
  }
}

bool quantise_avx2(const float* row, const float* means, const float* inverse_steps,
                   std::size_t count, std::int16_t* quantised) {
  const __m256 most = _mm256_set1_ps(32767.0f);
  const __m256 magnitude = _mm256_castsi256_ps(_mm256_set1_epi32(0x7fffffff));
  __m256 inside = _mm256_castsi256_ps(_mm256_set1_epi32(-1));
  const auto eight = [&](std::size_t i) {
    const __m256 x =
        _mm256_mul_ps(_mm256_sub_ps(_mm256_loadu_ps(row + i), _mm256_loadu_ps(means + i)),
                      _mm256_loadu_ps(inverse_steps + i));
    inside = _mm256_and_ps(inside, _mm256_cmp_ps(_mm256_and_ps(x, magnitude), most, _CMP_LE_OQ));
    // To the nearest, ties to even, as the addition of the portable loop.
    return _mm256_cvtps_epi32(x);
  };
  std::size_t i = 0;
  for (; i + 16 <= count; i += 16) {
    const __m256i packed = _mm256_packs_epi32(eight(i), eight(i + 8));
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(quantised + i),
                        _mm256_permute4x64_epi64(packed, 0xd8));
  }
  const bool all = _mm256_movemask_ps(inside) == 0xff;
  return quantise(row + i, means + i, inverse_steps + i, count - i, quantised + i) && all;
}

void dequantise_avx2(const std::int16_t* quantised, const float* steps, const float* means,
                     std::size_t count, float* row) {
  std::size_t i = 0;
  for (; i + 8 <= count; i += 8) {
    const __m128i q = _mm_loadu_si128(reinterpret_cast<const __m128i*>(quantised + i));
    const __m256 v = _mm256_cvtepi32_ps(_mm256_cvtepi16_epi32(q));
    _mm256_storeu_ps(row + i, _mm256_add_ps(_mm256_mul_ps(v, _mm256_loadu_ps(steps + i)),
                                            _mm256_loadu_ps(means + i)));
  }
  dequantise(quantised + i, steps + i, means + i, count - i, row + i);
}

// Eight rows of eight, transposed.
void transpose(__m128i (&v)[8]) {
  __m128i a[8];
  for (int i = 0; i < 4; ++i) {
    a[2 * i] = _mm_unpacklo_epi16(v[i], v[i + 4]);
    a[2 * i + 1] = _mm_unpackhi_epi16(v[i], v[i + 4]);
  }
  __m128i b[8];
  for (int i = 0; i < 4; ++i) {
    b[2 * i] = _mm_unpacklo_epi16(a[i], a[i + 4]);
    b[2 * i + 1] = _mm_unpackhi_epi16(a[i], a[i + 4]);
  }
  for (int i = 0; i < 4; ++i) {
    v[2 * i] = _mm_unpacklo_epi16(b[i], b[i + 4]);
    v[2 * i + 1] = _mm_unpackhi_epi16(b[i], b[i + 4]);
  }
}

__m128i load8(const std::int16_t* p) {
  return _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
}
void store8(__m128i v, std::int16_t* p) {
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p), v);
}

void tile_to_runs_avx2(const std::int16_t* tile, std::size_t tokens, std::size_t channels,
                       const std::size_t* begins, std::int16_t* values) {
  std::size_t c = 0;
  if (tokens == kTileTokens) {
    for (; c + 8 <= channels; c += 8) {
      __m128i v[8];
      for (std::size_t t = 0; t < 8; ++t) v[t] = load8(tile + t * channels + c);
      transpose(v);
      for (std::size_t i = 0; i < 8; ++i) store8(v[i], values + begins[c + i]);
    }
  }
  tile_to_runs_from(c, tile, tokens, channels, begins, values);
}

void runs_to_tile_avx2(const std::int16_t* values, const std::size_t* begins, std::size_t tokens,
                       std::size_t channels, std::int16_t* tile) {
  std::size_t c = 0;
  if (tokens == kTileTokens) {
    for (; c + 8 <= channels; c += 8) {
      __m128i v[8];
      for (std::size_t i = 0; i < 8; ++i) v[i] = load8(values + begins[c + i]);
      transpose(v);
      for (std::size_t t = 0; t < 8; ++t) store8(v[t], tile + t * channels + c);
    }
  }
  runs_to_tile_from(c, values, begins, tokens, channels, tile);
}

__m256i load16(const std::int16_t* p) {
  return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
}

// The counts of the lanes of `v`, which are 0 or -1 times how often.
std::uint32_t sum_of_counts(__m256i v) {
  const __m256i pairs = _mm256_madd_epi16(v, _mm256_set1_epi16(-1));
  __m128i sum = _mm_add_epi32(_mm256_castsi256_si128(pairs), _mm256_extracti128_si256(pairs, 1));
  sum = _mm_add_epi32(sum, _mm_shuffle_epi32(sum, 0x4e));
  sum = _mm_add_epi32(sum, _mm_shuffle_epi32(sum, 0xb1));
  return static_cast<std::uint32_t>(_mm_cvtsi128_si32(sum));
}

std::size_t end_of_magnitudes_avx2(const std::int16_t* values, std::size_t count) {
  __m256i largest = _mm256_setzero_si256();
  std::size_t i = 0;
  for (; i + 16 <= count; i += 16)
    largest = _mm256_max_epi16(largest, _mm256_abs_epi16(load16(values + i)));
  __m128i most =
      _mm_max_epi16(_mm256_castsi256_si128(largest), _mm256_extracti128_si256(largest, 1));
  // The least of what is missing to the largest number.
  most = _mm_minpos_epu16(_mm_sub_epi16(_mm_set1_epi16(32767), most));
  const auto end = static_cast<std::size_t>(32767 - (_mm_cvtsi128_si32(most) & 0xffff)) + 1;
  const std::size_t rest = end_of_magnitudes(values + i, count - i);
  const std::size_t all = end > rest ? end : rest;
  return all < kMagnitudes ? all : kMagnitudes;
}

std::size_t count_magnitudes_avx2(const std::int16_t* values, std::size_t count,
                                  std::uint32_t* counts) {
  // Coarse steps leave few magnitudes: then each is compared with, which takes no table.
  constexpr std::size_t kFew = 8;
  const std::size_t end = end_of_magnitudes_avx2(values, count);
  if (end > kFew || count >= 4096) {
    count_below(values, count, end, counts);
    return end;
  }
  const std::size_t whole = count / 16 * 16;
  __m256i found[kFew];
  for (__m256i& f : found) f = _mm256_setzero_si256();
  for (std::size_t i = 0; i < whole; i += 16) {
    const __m256i magnitude = _mm256_abs_epi16(load16(values + i));
    for (std::size_t m = 0; m < kFew; ++m) {
      found[m] = _mm256_add_epi16(
          found[m], _mm256_cmpeq_epi16(magnitude, _mm256_set1_epi16(static_cast<std::int16_t>(m))));
    }
  }
  for (std::size_t m = 0; m < kFew; ++m) counts[m] += sum_of_counts(found[m]);
  count_below(values + whole, count - whole, end, counts);
  return end;
}

std::size_t symbols_of_values_avx2(const std::int16_t* values, std::size_t count,
                                   std::uint32_t raw_bits, std::int32_t most,
                                   std::uint8_t* symbols) {
  const __m256i half = _mm256_set1_epi16(static_cast<std::int16_t>((1 << raw_bits) / 2));
  const __m128i shift = _mm_cvtsi32_si128(static_cast<int>(raw_bits));
  const __m256i offset = _mm256_set1_epi16(static_cast<std::int16_t>(most));
  const __m256i above = _mm256_set1_epi16(static_cast<std::int16_t>(most + 1));
  std::size_t i = 0;
  for (; i + 32 <= count; i += 32) {
    // Saturated at the ends of 16 bits, which no table holds.
    const __m256i a = _mm256_sra_epi16(_mm256_adds_epi16(load16(values + i), half), shift);
    const __m256i b = _mm256_sra_epi16(_mm256_adds_epi16(load16(values + i + 16), half), shift);
    // The magnitude of -32768 stays, negative.
    const __m256i large = _mm256_max_epu16(_mm256_abs_epi16(a), _mm256_abs_epi16(b));
    const __m256i outside = _mm256_cmpeq_epi16(_mm256_max_epu16(large, above), large);
    if (_mm256_movemask_epi8(outside) != 0) return i;
    const __m256i packed =
        _mm256_packus_epi16(_mm256_add_epi16(a, offset), _mm256_add_epi16(b, offset));
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(symbols + i),
                        _mm256_permute4x64_epi64(packed, 0xd8));
  }
  return i + symbols_of_values(values + i, count - i, raw_bits, most, symbols + i);
}

std::size_t symbols_of_pairs_avx2(const std::int16_t* values, std::size_t pairs, std::int32_t most,
                                  std::int32_t most_sum, std::uint8_t* symbols) {
  const std::int32_t width = 2 * most + 1;
  const __m256i ones = _mm256_set1_epi16(1);
  const __m256i weights = _mm256_set1_epi32(width | 1 << 16);
  const __m256i offset = _mm256_set1_epi32(most * width + most);
  const __m256i above = _mm256_set1_epi16(static_cast<std::int16_t>(most + 1));
  const __m256i largest_sum = _mm256_set1_epi32(most_sum);
  const __m256i order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
  std::size_t i = 0;
  for (; i + 16 <= pairs; i += 16) {
    const __m256i a = load16(values + 2 * i);
    const __m256i b = load16(values + 2 * i + 16);
    const __m256i size_a = _mm256_abs_epi16(a);
    const __m256i size_b = _mm256_abs_epi16(b);
    const __m256i large = _mm256_max_epu16(size_a, size_b);
    const __m256i outside = _mm256_cmpeq_epi16(_mm256_max_epu16(large, above), large);
    const __m256i sum_a = _mm256_cmpgt_epi32(_mm256_madd_epi16(size_a, ones), largest_sum);
    const __m256i sum_b = _mm256_cmpgt_epi32(_mm256_madd_epi16(size_b, ones), largest_sum);
    if (_mm256_movemask_epi8(_mm256_or_si256(outside, _mm256_or_si256(sum_a, sum_b))) != 0)
      return i;
    const __m256i symbol_a = _mm256_add_epi32(_mm256_madd_epi16(a, weights), offset);
    const __m256i symbol_b = _mm256_add_epi32(_mm256_madd_epi16(b, weights), offset);
    // Four of a, four of b, and the same again, in each half.
    const __m256i words = _mm256_packs_epi32(symbol_a, symbol_b);
    const __m256i bytes = _mm256_permutevar8x32_epi32(_mm256_packus_epi16(words, words), order);
    _mm_storeu_si128(reinterpret_cast<__m128i*>(symbols + i), _mm256_castsi256_si128(bytes));
  }
  return i + symbols_of_pairs(values + 2 * i, pairs - i, most, most_sum, symbols + i);
}

void take_bits_avx2(const std::int16_t* values, std::size_t count, std::int32_t offset,
                    std::uint32_t bit, std::uint8_t* bits) {
  const __m256i add = _mm256_set1_epi16(static_cast<std::int16_t>(offset));
  const __m128i shift = _mm_cvtsi32_si128(static_cast<int>(15 - bit));
  std::size_t i = 0;
  for (; i + 32 <= count; i += 32) {
    // The bit becomes the sign, which saturation keeps.
    const __m256i a = _mm256_sll_epi16(_mm256_add_epi16(load16(values + i), add), shift);
    const __m256i b = _mm256_sll_epi16(_mm256_add_epi16(load16(values + i + 16), add), shift);
    const __m256i packed = _mm256_permute4x64_epi64(_mm256_packs_epi16(a, b), 0xd8);
    const auto mask = static_cast<std::uint32_t>(_mm256_movemask_epi8(packed));
    std::memcpy(bits + i / 8, &mask, sizeof mask);
  }
  take_bits(values + i, count - i, offset, bit, bits + i / 8);
}

void widen_avx2(const std::int8_t* kept, std::size_t count, std::uint32_t raw_bits,
                const std::uint8_t* planes, std::int16_t* values) {
  const __m128i shift = _mm_cvtsi32_si128(static_cast<int>(raw_bits));
  const __m256i half = _mm256_set1_epi16(static_cast<std::int16_t>((1 << raw_bits) / 2));
  const __m256i places = _mm256_setr_epi16(1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096,
                                           8192, 16384, -32768);
  const std::size_t plane = (count + 7) / 8;
  std::size_t i = 0;
  for (; i + 16 <= count; i += 16) {
    const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(kept + i));
    __m256i v = _mm256_sub_epi16(_mm256_sll_epi16(_mm256_cvtepi8_epi16(bytes), shift), half);
    for (std::uint32_t bit = 0; bit < raw_bits; ++bit) {
      std::int16_t sixteen;
      std::memcpy(&sixteen, planes + bit * plane + i / 8, sizeof sixteen);
      const __m256i set =
          _mm256_cmpeq_epi16(_mm256_and_si256(_mm256_set1_epi16(sixteen), places), places);
      v = _mm256_add_epi16(
          v, _mm256_and_si256(set, _mm256_set1_epi16(static_cast<std::int16_t>(1 << bit))));
    }
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(values + i), v);
  }
  widen_from(i, kept, count, raw_bits, planes, values);
}

}  // namespace

const RowKernels* avx2_row_kernels() {
  static constexpr RowKernels kKernels = {"avx2",
                                          load_avx2,
                                          store_avx2,
                                          rotate_avx2,
                                          add,
                                          add_squares,
                                          quantise_avx2,
                                          dequantise_avx2,
                                          tile_to_runs_avx2,
                                          runs_to_tile_avx2,
                                          count_magnitudes_avx2,
                                          symbols_of_values_avx2,
                                          symbols_of_pairs_avx2,
                                          take_bits_avx2,
                                          widen_avx2};
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
