// Groups of kGroupValues values, transformed, with one F16 scale and 4-bit symbols.
//
// Each group is multiplied by a Hadamard matrix of the largest power of two that divides its length
// (a group of 20 values as five fours), divided by the root of that number. It spreads a value that
// stands out over its neighbours, so that 16 levels serve all of them.
#pragma once

#include <cstdint>

#include "kvferry/codec/block.hpp"
#include "kvferry/codec/block_format.hpp"

namespace kvferry {

// Quantises values [heads of all tokens, head_dim] to scales (little-endian F16, one a group) and
// symbols (4 bits, two a byte, the first one lower). A transformed value v is symbol s where
// (2 s - 15) scale is nearest to it; the scale is the least F16 number with 16 scale >= |v| in the
// group. False, with indeterminate output, when a value is not finite or too large for a scale.
bool encode_int4_groups(Span<const float> values, std::uint32_t head_dim, MutableBytes scales,
                        MutableBytes symbols);

// The inverse. False when a scale is not a finite non-negative number.
bool decode_int4_groups(Bytes scales, Bytes symbols, std::uint32_t head_dim, Span<float> values);

}  // namespace kvferry
