// Weights of path::MaxwellFp16 as host and device see them. C++14, no CUDA.
//
// Rows are outputs. Eight rows form an octet, 32 columns (inputs) of them a group; rows past the
// last are zero. A warp reads four groups of an octet at once, lane l row l % 8 of group l / 8, 16
// bytes at a time:
//
//   quants  [octets, groups] of OctetGroup<kParts>
//   scales  [octets, groups, 8] of the format's scale
//
// Bits are numbered in words that are little-endian in memory.
#pragma once

#include <cstddef>
#include <cstdint>

namespace kvferry {
namespace octet {

constexpr int kRows = 8;           // of an octet
constexpr int kGroupColumns = 32;  // that share a scale

enum class Format : std::uint8_t { kF16, kW8, kW4, kW4Minimum };

// What one load of a lane brings.
struct alignas(16) Part {
  std::uint32_t words[4];
};

// 32 columns of eight rows; a row's parts lie in the order of its columns.
template <int kParts>
struct Group {
  Part parts[kParts][kRows];
};

// Each column's F16: column c in half c % 2 (0 low) of word c / 2 of the row. No scales.
using F16Group = Group<4>;

// weight = scale * q, |q| <= 127, as sign and magnitude so that a mask makes it an F16 subnormal.
// Columns 4 i to 4 i + 3 in word i of the row:
//   4 i      magnitude in bits 0 to 6,   sign in bit 15
//   4 i + 1  magnitude in bits 16 to 22, sign in bit 31
//   4 i + 2  magnitude in bits 8 to 14,  sign in bit 23
//   4 i + 3  magnitude in bits 24 to 30, sign in bit 7
// The word turned by eight bits holds the last two as it holds the first two.
using W8Group = Group<2>;

// weight = scale * (q - 8), 4.5 bits, or scale * q + minimum, 5 bits; q = 0 to 15. Columns 8 i to
// 8 i + 7 in word i of the row, column 8 i + j in bits 4 (j / 2) + 16 (j % 2) and the next three.
using W4Group = Group<1>;

using Scale = std::uint16_t;  // F16: W8 and W4

struct alignas(4) ScaleAndMinimum {  // F16 both: W4 with a minimum
  std::uint16_t scale;
  std::uint16_t minimum;
};

// Zero point of W4 without a minimum.
constexpr int kW4Zero = 8;

constexpr std::size_t group_bytes(Format format) {
  return format == Format::kF16  ? sizeof(F16Group)
         : format == Format::kW8 ? sizeof(W8Group)
                                 : sizeof(W4Group);
}
// Of one group of an octet.
constexpr std::size_t scale_bytes(Format format) {
  return format == Format::kF16         ? 0
         : format == Format::kW4Minimum ? kRows * sizeof(ScaleAndMinimum)
                                        : kRows * sizeof(Scale);
}

}  // namespace octet
}  // namespace kvferry
