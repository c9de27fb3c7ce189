// The shape of the rotation that INT8 inputs and weights share. C++14: host and device code.
#pragma once

namespace kvferry {

// Values that one block of the rotation mixes: at most this many for the inputs of Q, K, V, gate
// and up, and for those of down. The inputs of o are not rotated (blocks of 1).
constexpr int kHiddenRotation = 64;
constexpr int kFfnRotation = 128;

// The largest power of two up to `limit`, itself a power of two, that divides `columns` > 0. Block
// b of the rotation takes columns [b * block, (b + 1) * block) to H / sqrt(block) times them;
// H[i][j] = -1 where i & j has an odd number of bits, else 1.
constexpr int hadamard_block(int columns, int limit) {
  return columns % limit == 0 ? limit : hadamard_block(columns, limit / 2);
}

// Rows of INT8 values are filled up with zeros to a multiple of this.
constexpr int kInt8RowUnit = 64;

constexpr int padded_columns(int columns) {
  return (columns + kInt8RowUnit - 1) / kInt8RowUnit * kInt8RowUnit;
}

}  // namespace kvferry
