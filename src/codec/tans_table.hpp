// The tANS coder's tables: one for each distribution of symbol_weights.hpp, the same everywhere.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace kvferry {

constexpr std::uint32_t kStateBits = 11;
constexpr std::uint32_t kStates = 1u << kStateBits;

constexpr std::size_t kCosts = 64;  // above every table's largest value
// What an escape takes beside its symbol, in 1/256 bit: an entry of about three bytes.
constexpr std::uint32_t kEscapeCost = 24 * 256;

// A symbol is one value, or a pair of neighbours where the table is paired. Its number, below 256,
// counts from the smallest value up; of a pair, first value first.
struct TansTable {
  // What coding a symbol does to a state, as in FSE: bits = (state + bits_of) >> 16 go out, the
  // next state is next_state[(state >> bits) + first]. States are kStates .. 2 kStates - 1.
  struct Step {
    std::uint32_t bits_of;
    std::int32_t first;
  };

  bool paired;
  std::int32_t most;      // largest |value|
  std::int32_t most_sum;  // of a pair: largest |a| + |b|
  std::int32_t width;     // 2 most + 1, values that a symbol can hold
  // By state - kStates: bits 0-7 the value, 8-15 the second of a pair, 16-19 how many bits to read,
  // 20-31 what to add to them for the next state - kStates.
  std::vector<std::uint32_t> decode;  // [kStates]
  std::vector<Step> encode;           // [width] or [width, width]; unused where a pair is too large
  std::vector<std::uint16_t> next_state;  // [kStates]
  // Of |value|, in 1/256 bit, of its symbol alone; kEscapeCost and a zero's above `most`.
  std::array<std::uint32_t, kCosts> cost;
  // Mean |value| of the distribution, times 2^16.
  std::uint32_t mean_magnitude;

  bool holds(std::int32_t a) const { return a >= -most && a <= most; }
  bool holds(std::int32_t a, std::int32_t b) const {
    return holds(a) && holds(b) && (a < 0 ? -a : a) + (b < 0 ? -b : b) <= most_sum;
  }
};

// [kSymbolTables]. All are made by the first call, in about a millisecond; they take 0.8 MB.
const TansTable* tans_tables();

}  // namespace kvferry
