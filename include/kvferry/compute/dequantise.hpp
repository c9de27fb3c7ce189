// Dequantisation: blocks of a GGUF tensor to F32, exactly as GGML defines each type.
#pragma once

#include <cstdint>

#include "kvferry/core/span.hpp"
#include "kvferry/model/tensor.hpp"

namespace kvferry {

// Expands `data` (whole blocks of `type`) into `out`, which has block_values(type) values a block.
// `data` needs no alignment.
void dequantise(TensorType type, Bytes data, Span<float> out);

// Row `row` of `tensor` into `out`, which has tensor.columns values.
void dequantise_row(const TensorView& tensor, std::uint64_t row, Span<float> out);

}  // namespace kvferry
