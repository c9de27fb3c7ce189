// The codec's loops over rows, one table per instruction set. All tables give the same bits.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "kvferry/cache/geometry.hpp"
#include "kvferry/codec/predictor.hpp"
#include "kvferry/codec/rotation.hpp"

namespace kvferry {

constexpr std::size_t kTileTokens = 8;
constexpr std::size_t kMagnitudes = 256;

struct RowKernels {
  const char* name;

  // floats = the values of a row of `type`, exactly.
  void (*load)(ElementType type, const std::uint8_t* row, std::size_t count, float* floats);
  // The inverse, rounding to nearest even. Finite values stay finite: what F16 or BF16 cannot hold
  // becomes their largest number.
  void (*store)(ElementType type, const float* floats, std::size_t count, std::uint8_t* row);

  // (a, b) becomes (a cos - b sin, a sin + b cos), or with `inverse` the other way round.
  void (*rotate)(const RowRotation& rotation, bool inverse, float* row);

  void (*add)(const float* row, std::size_t count, float* sums);  // sums += row
  // sums += (row - means)^2
  void (*add_squares)(const float* row, const float* means, std::size_t count, float* sums);

  // quantised = (row - means) * inverse_steps to the nearest integer, ties to even. False, with
  // any content, when one is beyond 16 bits or not a number.
  bool (*quantise)(const float* row, const float* means, const float* inverse_steps,
                   std::size_t count, std::int16_t* quantised);
  // row = quantised * steps + means
  void (*dequantise)(const std::int16_t* quantised, const float* steps, const float* means,
                     std::size_t count, float* row);

  // A tile of `tokens` (at most kTileTokens) rows of `channels` values, into or out of runs: value
  // (t, c) is tile[t * channels + c] and values[begins[c] + t].
  void (*tile_to_runs)(const std::int16_t* tile, std::size_t tokens, std::size_t channels,
                       const std::size_t* begins, std::int16_t* values);
  void (*runs_to_tile)(const std::int16_t* values, const std::size_t* begins, std::size_t tokens,
                       std::size_t channels, std::int16_t* tile);

  // counts[min(|value|, kMagnitudes - 1)] grows by one for each value. `counts` is [kMagnitudes].
  // Returns what is above the largest of these magnitudes.
  std::size_t (*count_magnitudes)(const std::int16_t* values, std::size_t count,
                                  std::uint32_t* counts);

  // The sum of counts[v] * costs[v], modulo 2^32. `count` is a multiple of 16.
  std::uint32_t (*sum_of_costs)(const std::uint32_t* counts, const std::uint32_t* costs,
                                std::size_t count);

  // The symbol of each value v: ((v + 2^raw_bits / 2) >> raw_bits) + most. Stops before a value
  // whose symbol is below 0 or above 2 most, and may stop up to 63 values before it; returns how
  // many are done. Values are within 15 bits and the sign where raw_bits > 0.
  std::size_t (*symbols_of_values)(const std::int16_t* values, std::size_t count,
                                   std::uint32_t raw_bits, std::int32_t most,
                                   std::uint8_t* symbols);
  // Likewise of each pair (a, b): (a + most) * (2 most + 1) + b + most. Stops before a pair with
  // |a| or |b| above `most` or |a| + |b| above `most_sum`, or up to 31 pairs before it.
  std::size_t (*symbols_of_pairs)(const std::int16_t* values, std::size_t pairs, std::int32_t most,
                                  std::int32_t most_sum, std::uint8_t* symbols);

  // Bit `bit` of value + offset, eight values a byte, the first one lowest; the last byte is padded
  // with zeros.
  void (*take_bits)(const std::int16_t* values, std::size_t count, std::int32_t offset,
                    std::uint32_t bit, std::uint8_t* bits);
  // The inverse of the two: values = (kept << raw_bits) + the bits of the planes - 2^raw_bits / 2.
  // `planes` is [raw_bits, (count + 7) / 8], the lowest bits first.
  void (*widen)(const std::int8_t* kept, std::size_t count, std::uint32_t raw_bits,
                const std::uint8_t* planes, std::int16_t* values);

  // ordered_product()
  void (*multiply)(const ProductShape& shape, const float* x, const float* m, float* out);
};

// The best table for this processor. The environment's KVFERRY_ISA, where it is the name of one,
// chooses another.
const RowKernels& row_kernels();

// Every table that this processor can use; the portable one first.
std::vector<const RowKernels*> available_row_kernels();

// Of the build; null without the instructions.
const RowKernels* portable_row_kernels();
const RowKernels* avx2_row_kernels();
const RowKernels* avx512_row_kernels();
const RowKernels* neon_row_kernels();

}  // namespace kvferry
