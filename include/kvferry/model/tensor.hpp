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

// A matrix, row by row; a vector has one row. Does not own its bytes (a mapped file does).
struct TensorView {
  TensorType type = TensorType::kF32;
  std::uint64_t rows = 0;     // outputs
  std::uint64_t columns = 0;  // inputs: the contiguous direction
  Bytes data;                 // rows * columns values in blocks of `type`
};

}  // namespace kvferry
