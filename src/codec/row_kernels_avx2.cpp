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

}  // namespace

const RowKernels* avx2_row_kernels() {
  static constexpr RowKernels kKernels = {
      "avx2",      load_avx2,     store_avx2,      rotate_avx2,       add,
      add_squares, quantise_avx2, dequantise_avx2, tile_to_runs_avx2, runs_to_tile_avx2};
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
