// The codec's loops over rows, one table per instruction set. All tables give the same bits.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "kvferry/cache/geometry.hpp"
#include "kvferry/codec/rotation.hpp"

namespace kvferry {

constexpr std::size_t kTileTokens = 8;

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
};

// The best table for this processor. The environment's KVFERRY_ISA, where it is the name of one,
// chooses another.
const RowKernels& row_kernels();

// Every table that this processor can use; the portable one first.
std::vector<const RowKernels*> available_row_kernels();

// Of the build; null without the instructions.
const RowKernels* portable_row_kernels();
const RowKernels* avx2_row_kernels();

}  // namespace kvferry
