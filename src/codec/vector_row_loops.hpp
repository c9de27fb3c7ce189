// The loops of row_kernels.hpp over vectors: one text for every instruction set, with the bits of
// row_loops.hpp, which does the tails. Included once by each instruction set's source.
//
// V has kFloats and kShorts (twice as many), the vectors Floats, Ints (as many as Floats) and
// Shorts, and static functions on them, whose rarer ones are:
//   order_of_pairs, load_pairs, store_pairs
//                      2 kFloats neighbours (a, b) apart and together again. The pairs may be in
//                      another order than in memory, the one that order_of_pairs() gives.
//   any_above          whether a lane, without sign, is above a limit
//   store_rounded      kShorts floats to the nearest integers, ties to even
//   store_low_bytes    the lowest bytes of lanes
//   pair_sums, pair_products
//                      of each pair of lanes (a, b): a + b without sign, and a * width + b
//   store_signs        the sign of each lane, the first one lowest
//   lanes_of_bits      all ones in lane i where bit i of kShorts bits is set
//   add_where_equal    counts, one more where a lane equals a number
#pragma once

#include <cstddef>
#include <cstdint>

#include "eight_shorts.hpp"
#include "row_kernels.hpp"
#include "row_loops.hpp"

namespace kvferry {
namespace {  // NOLINT(google-build-namespaces): as in row_loops.hpp

template <typename V>
struct VectorRowLoops {
  using Floats = typename V::Floats;
  using Ints = typename V::Ints;
  using Shorts = typename V::Shorts;
  static constexpr std::size_t kFloats = V::kFloats;
  static constexpr std::size_t kShorts = V::kShorts;

  static void load_row(ElementType type, const std::uint8_t* row, std::size_t count,
                       float* floats) {
    std::size_t i = 0;
    if (type == ElementType::kF16) {
      for (; i + kFloats <= count; i += kFloats) V::store(V::load_half(row + 2 * i), floats + i);
    }
    load(type, row + i * size_of(type), count - i, floats + i);
  }

  static void store_row(ElementType type, const float* floats, std::size_t count,
                        std::uint8_t* row) {
    std::size_t i = 0;
    if (type == ElementType::kF16) {
      for (; i + kFloats <= count; i += kFloats)
        V::store_half(V::clamp(V::load(floats + i), kLargestHalf), row + 2 * i);
    }
    store(type, floats + i, count - i, row + i * size_of(type));
  }

  template <bool kSplit>
  static void rotate_layout(const RowRotation& r, bool inverse, float* row) {
    const Floats sign = V::set(inverse ? -0.0f : 0.0f);
    std::size_t i = 0;
    for (; i + kFloats <= r.pairs; i += kFloats) {
      Floats cos = V::load(r.cos + i);
      Floats sin = V::exclusive_or(V::load(r.sin + i), sign);
      if (!kSplit) {
        cos = V::order_of_pairs(cos);
        sin = V::order_of_pairs(sin);
      }
      float* at = row + (kSplit ? i : 2 * i);
      for (std::size_t h = 0; h < r.heads; ++h, at += r.head_dim) {
        Floats a, b;
        if (kSplit) {
          a = V::load(at);
          b = V::load(at + r.pairs);
        } else {
          V::load_pairs(at, a, b);
        }
        const Floats x = V::sub(V::mul(a, cos), V::mul(b, sin));
        const Floats y = V::add(V::mul(a, sin), V::mul(b, cos));
        if (kSplit) {
          V::store(x, at);
          V::store(y, at + r.pairs);
        } else {
          V::store_pairs(x, y, at);
        }
      }
    }
    rotate_from(i, r, inverse, row);
  }

  static void rotate_row(const RowRotation& r, bool inverse, float* row) {
    if (r.layout == RopeLayout::kSplitHalves) {
      rotate_layout<true>(r, inverse, row);
    } else {
      rotate_layout<false>(r, inverse, row);
    }
  }

  static bool quantise_row(const float* row, const float* means, const float* inverse_steps,
                           std::size_t count, std::int16_t* quantised) {
    // As integers, magnitudes are in order and those that are no numbers above all others.
    Ints largest = V::zero_ints();
    const auto scaled = [&](std::size_t i) {
      const Floats x =
          V::mul(V::sub(V::load(row + i), V::load(means + i)), V::load(inverse_steps + i));
      largest = V::larger(largest, V::magnitude(x));
      return x;
    };
    std::size_t i = 0;
    for (; i + kShorts <= count; i += kShorts) {
      const Floats low = scaled(i);
      const Floats high = scaled(i + kFloats);
      V::store_rounded(low, high, quantised + i);
    }
    const bool inside = !V::any_above(largest, float_bits(32767.0f));
    return quantise(row + i, means + i, inverse_steps + i, count - i, quantised + i) && inside;
  }

  static void dequantise_row(const std::int16_t* quantised, const float* steps, const float* means,
                             std::size_t count, float* row) {
    std::size_t i = 0;
    for (; i + kFloats <= count; i += kFloats) {
      const Floats v = V::load_shorts_as_floats(quantised + i);
      V::store(V::add(V::mul(v, V::load(steps + i)), V::load(means + i)), row + i);
    }
    dequantise(quantised + i, steps + i, means + i, count - i, row + i);
  }

  static void to_runs(const std::int16_t* tile, std::size_t tokens, std::size_t channels,
                      const std::size_t* begins, std::int16_t* values) {
    std::size_t c = 0;
    if (tokens == kTileTokens) {
      for (; c + 8 <= channels; c += 8) {
        EightShorts v[8];
        for (std::size_t t = 0; t < 8; ++t) v[t] = load8(tile + t * channels + c);
        transpose(v);
        for (std::size_t i = 0; i < 8; ++i) store8(v[i], values + begins[c + i]);
      }
    }
    tile_to_runs_from(c, tile, tokens, channels, begins, values);
  }

  static void to_tile(const std::int16_t* values, const std::size_t* begins, std::size_t tokens,
                      std::size_t channels, std::int16_t* tile) {
    std::size_t c = 0;
    if (tokens == kTileTokens) {
      for (; c + 8 <= channels; c += 8) {
        EightShorts v[8];
        for (std::size_t i = 0; i < 8; ++i) v[i] = load8(values + begins[c + i]);
        transpose(v);
        for (std::size_t t = 0; t < 8; ++t) store8(v[t], tile + t * channels + c);
      }
    }
    runs_to_tile_from(c, values, begins, tokens, channels, tile);
  }

  static std::size_t count_magnitudes(const std::int16_t* values, std::size_t count,
                                      std::uint32_t* counts) {
    const std::size_t whole = count / kShorts * kShorts;
    // The last values, and zeros.
    std::int16_t rest[kShorts] = {};
    for (std::size_t i = whole; i < count; ++i) rest[i - whole] = values[i];
    Shorts largest = V::magnitude(V::load(rest));
    for (std::size_t i = 0; i < whole; i += kShorts)
      largest = V::larger(largest, V::magnitude(V::load(values + i)));
    std::size_t end = V::largest(largest) + std::size_t{1};
    if (end > kMagnitudes) end = kMagnitudes;
    // Coarse steps leave few magnitudes: then each is compared with, which takes no table.
    constexpr std::size_t kFew = 8;
    if (end > kFew || count >= 4096) {
      count_below(values, count, end, counts);
      return end;
    }
    Shorts found[kFew];
    for (Shorts& f : found) f = V::zero_shorts();
    const auto compare = [&found](Shorts v) {
      const Shorts magnitude = V::magnitude(v);
      for (std::size_t m = 0; m < kFew; ++m)
        found[m] = V::add_where_equal(found[m], magnitude, static_cast<std::int16_t>(m));
    };
    for (std::size_t i = 0; i < whole; i += kShorts) compare(V::load(values + i));
    compare(V::load(rest));
    for (std::size_t m = 0; m < end; ++m) counts[m] += V::sum(found[m]);
    counts[0] -= static_cast<std::uint32_t>(whole + kShorts - count);
    return end;
  }

  static std::uint32_t costs_of_counts(const std::uint32_t* counts, const std::uint32_t* costs,
                                       std::size_t count) {
    // As many sums as one multiplication and addition takes to end, or more.
    constexpr std::size_t kSums = 16 / kFloats;
    Ints sums[kSums];
    for (Ints& sum : sums) sum = V::zero_ints();
    for (std::size_t v = 0; v < count; v += 16) {
      for (std::size_t n = 0; n < kSums; ++n) {
        const std::size_t at = v + n * kFloats;
        sums[n] = V::add(sums[n], V::mul(V::load(counts + at), V::load(costs + at)));
      }
    }
    for (std::size_t n = 1; n < kSums; ++n) sums[0] = V::add(sums[0], sums[n]);
    return V::sum(sums[0]);
  }

  static std::size_t value_symbols(const std::int16_t* values, std::size_t count,
                                   std::uint32_t raw_bits, std::int32_t most,
                                   std::uint8_t* symbols) {
    const Shorts half = V::set(static_cast<std::int16_t>((1 << raw_bits) / 2));
    const Shorts offset = V::set(static_cast<std::int16_t>(most));
    std::size_t i = 0;
    for (; i + 2 * kShorts <= count; i += 2 * kShorts) {
      // Saturated at the ends of 16 bits, which no table holds.
      const Shorts a = V::shift_right(V::add_saturated(V::load(values + i), half), raw_bits);
      const Shorts b =
          V::shift_right(V::add_saturated(V::load(values + i + kShorts), half), raw_bits);
      // The magnitude of -32768 stays what it is, and has no sign here.
      const Shorts large = V::larger(V::magnitude(a), V::magnitude(b));
      if (V::any_above(large, static_cast<std::uint16_t>(most))) return i;
      V::store_low_bytes(V::add(a, offset), V::add(b, offset), symbols + i);
    }
    return i + symbols_of_values(values + i, count - i, raw_bits, most, symbols + i);
  }

  static std::size_t pair_symbols(const std::int16_t* values, std::size_t pairs, std::int32_t most,
                                  std::int32_t most_sum, std::uint8_t* symbols) {
    const std::int32_t width = 2 * most + 1;
    const Ints offset = V::set_ints(most * width + most);
    std::size_t i = 0;
    for (; i + kShorts <= pairs; i += kShorts) {
      const Shorts a = V::load(values + 2 * i);
      const Shorts b = V::load(values + 2 * i + kShorts);
      const Shorts size_a = V::magnitude(a);
      const Shorts size_b = V::magnitude(b);
      const Ints sums = V::larger(V::pair_sums(size_a), V::pair_sums(size_b));
      if (V::any_above(V::larger(size_a, size_b), static_cast<std::uint16_t>(most)) ||
          V::any_above(sums, static_cast<std::uint32_t>(most_sum))) {
        return i;
      }
      V::store_low_bytes(V::add(V::pair_products(a, width), offset),
                         V::add(V::pair_products(b, width), offset), symbols + i);
    }
    return i + symbols_of_pairs(values + 2 * i, pairs - i, most, most_sum, symbols + i);
  }

  static void bits_of_values(const std::int16_t* values, std::size_t count, std::int32_t offset,
                             std::uint32_t bit, std::uint8_t* bits) {
    const Shorts add = V::set(static_cast<std::int16_t>(offset));
    std::size_t i = 0;
    for (; i + kShorts <= count; i += kShorts) {
      // The bit becomes the sign.
      const Shorts v = V::shift_left(V::add(V::load(values + i), add), 15 - bit);
      V::store_signs(v, bits + i / 8);
    }
    take_bits(values + i, count - i, offset, bit, bits + i / 8);
  }

  static void widen(const std::int8_t* kept, std::size_t count, std::uint32_t raw_bits,
                    const std::uint8_t* planes, std::int16_t* values) {
    const Shorts half = V::set(static_cast<std::int16_t>((1 << raw_bits) / 2));
    const std::size_t plane = (count + 7) / 8;
    std::size_t i = 0;
    if (raw_bits == 0) {
      for (; i + kShorts <= count; i += kShorts)
        V::store(V::load_bytes_as_shorts(kept + i), values + i);
    }
    for (; i + kShorts <= count; i += kShorts) {
      Shorts v = V::sub(V::shift_left(V::load_bytes_as_shorts(kept + i), raw_bits), half);
      for (std::uint32_t bit = 0; bit < raw_bits; ++bit) {
        const Shorts set = V::lanes_of_bits(planes + bit * plane + i / 8);
        v = V::add(v, V::bitwise_and(set, V::set(static_cast<std::int16_t>(1 << bit))));
      }
      V::store(v, values + i);
    }
    widen_from(i, kept, count, raw_bits, planes, values);
  }

  // The sums of a few rows and two vectors of columns stay in registers. No fused operations: the
  // same bits.
  static void multiply(const ProductShape& shape, const float* x, const float* m, float* out) {
    constexpr std::size_t kRows = V::kProductRows;
    constexpr std::size_t kColumns = 2 * kFloats;
    const std::size_t whole_rows = shape.rows - shape.rows % kRows;
    const std::size_t whole_columns = shape.columns - shape.columns % kColumns;
    for (std::size_t c = 0; c < whole_columns; c += kColumns) {
      for (std::size_t r = 0; r < whole_rows; r += kRows) {
        Floats sums[kRows][2];
        for (auto& sum : sums) sum[0] = sum[1] = V::set(0.0f);
        const float* factors = x + r * shape.inner;
        const float* row = m + c;
        for (std::size_t i = 0; i < shape.inner; ++i, ++factors, row += shape.columns) {
          const Floats low = V::load(row);
          const Floats high = V::load(row + kFloats);
          for (std::size_t a = 0; a < kRows; ++a) {
            const Floats factor = V::set(factors[a * shape.inner]);
            sums[a][0] = V::add(sums[a][0], V::mul(factor, low));
            sums[a][1] = V::add(sums[a][1], V::mul(factor, high));
          }
        }
        for (std::size_t a = 0; a < kRows; ++a) {
          V::store(sums[a][0], out + (r + a) * shape.columns + c);
          V::store(sums[a][1], out + (r + a) * shape.columns + c + kFloats);
        }
      }
    }
    multiply_part(0, whole_rows, whole_columns, shape, x, m, out);
    multiply_part(whole_rows, shape.rows, 0, shape, x, m, out);
  }

  static constexpr RowKernels kernels(const char* name) {
    return {name,          load_row,     store_row,        rotate_row,
            add,           add_squares,  quantise_row,     dequantise_row,
            to_runs,       to_tile,      count_magnitudes, costs_of_counts,
            value_symbols, pair_symbols, bits_of_values,   widen,
            multiply};
  }
};

}  // namespace
}  // namespace kvferry
