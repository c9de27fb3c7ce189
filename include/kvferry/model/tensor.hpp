// Weight tensors as a GGUF file holds them: type, shape, bytes.
#pragma once

#include <cstdint>

#include "kvferry/core/span.hpp"

namespace kvferry {

// The quantisations that this library reads; the numbers are GGUF's.
enum class TensorType : std::uint32_t {
  kF32 = 0,
  kF16 = 1,
  kQ4_0 = 2,
  kQ4_1 = 3,
  kQ5_0 = 6,
  kQ5_1 = 7,
  kQ8_0 = 8,
  kQ4_K = 12,
  kQ5_K = 13,
  kQ6_K = 14,
  kBF16 = 30,
};

// "Q4_K", …: as GGML spells it.
inline const char* name_of(TensorType t) {
  switch (t) {
    case TensorType::kF32:
      return "F32";
    case TensorType::kF16:
      return "F16";
    case TensorType::kQ4_0:
      return "Q4_0";
    case TensorType::kQ4_1:
      return "Q4_1";
    case TensorType::kQ5_0:
      return "Q5_0";
    case TensorType::kQ5_1:
      return "Q5_1";
    case TensorType::kQ8_0:
      return "Q8_0";
    case TensorType::kQ4_K:
      return "Q4_K";
    case TensorType::kQ5_K:
      return "Q5_K";
    case TensorType::kQ6_K:
      return "Q6_K";
    case TensorType::kBF16:
      return "BF16";
  }
  return "unknown";
}

// Values that share scales and are stored as one unit; 1 for the plain types.
inline std::uint32_t block_values(TensorType t) {
  switch (t) {
    case TensorType::kF32:
    case TensorType::kF16:
    case TensorType::kBF16:
      return 1;
    case TensorType::kQ4_K:
    case TensorType::kQ5_K:
    case TensorType::kQ6_K:
      return 256;
    default:
      return 32;
  }
}

// Bytes of one block.
inline std::uint32_t block_bytes(TensorType t) {
  switch (t) {
    case TensorType::kF32:
      return 4;
    case TensorType::kF16:
    case TensorType::kBF16:
      return 2;
    case TensorType::kQ4_0:
      return 18;
    case TensorType::kQ4_1:
      return 20;
    case TensorType::kQ5_0:
      return 22;
    case TensorType::kQ5_1:
      return 24;
    case TensorType::kQ8_0:
      return 34;
    case TensorType::kQ4_K:
      return 144;
    case TensorType::kQ5_K:
      return 176;
    case TensorType::kQ6_K:
      return 210;
  }
  return 0;
}

// A matrix, row by row; a vector has one row. Does not own its bytes (a mapped file does).
struct TensorView {
  TensorType type = TensorType::kF32;
  std::uint64_t rows = 0;     // outputs
  std::uint64_t columns = 0;  // inputs: the contiguous direction
  Bytes data;                 // rows * columns values in blocks of `type`; no alignment promised

  bool empty() const { return rows == 0; }
  // Of one row; columns are a multiple of block_values(type).
  std::uint64_t row_bytes() const { return columns / block_values(type) * block_bytes(type); }
};

}  // namespace kvferry
