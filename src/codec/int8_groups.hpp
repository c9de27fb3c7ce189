// Groups of kGroupValues values with one F16 scale and 8-bit symbols.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kvferry/codec/block.hpp"
#include "kvferry/codec/block_format.hpp"

namespace kvferry {

// Scales of a row of `heads` heads.
inline std::size_t groups_of_row(std::uint32_t heads, std::uint32_t head_dim) {
  return std::size_t{heads} * ((head_dim + kGroupValues - 1) / kGroupValues);
}

// Quantises values [heads of all tokens, head_dim] to scales (little-endian F16) and symbols.
// |decoded - value| <= scale / 2, where scale is the least F16 number with 127 scale >= |value| in
// the group. False, with indeterminate output, when a value is not finite or too large for a scale.
bool encode_int8_groups(Span<const float> values, std::uint32_t head_dim, MutableBytes scales,
                        MutableBytes symbols);

// The inverse, exact. False when a scale is not a finite non-negative number.
bool decode_int8_groups(Bytes scales, Bytes symbols, std::uint32_t head_dim, Span<float> values);

}  // namespace kvferry
