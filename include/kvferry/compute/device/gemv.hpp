// What the matrix-vector products of path::MaxwellFp16 take: plain data, C++14, no CUDA. All
// pointers are to device memory; strides and sizes are in elements.
#pragma once

#include <cstddef>

#include "kvferry/compute/device/octet_layout.hpp"

namespace kvferry {
namespace kernels {

constexpr int kGemvMaxBatch = 4;  // vectors of one product

struct GemvMatrix {
  octet::Format format;
  const octet::Part* quants;  // [octets, groups, parts, 8], 16-byte aligned
  const void* scales;         // [octets, groups, 8] of the format's scale, 4-byte aligned; not F16
  int rows;
  int columns;         // a multiple of 32
  int input_exponent;  // of OctetMatrix: at most 15
  float multiplier;    // of all weights, a power of two
};

// Inputs: where a product's vectors come from. Rows are aligned to 16 bytes, strides a multiple
// of 4.

// As they are: O and down.
struct PlainInput {
  const float* x;  // [batch, stride]
  int stride;
};
// x / sqrt(mean(x^2) + epsilon) * weight: Q, K and V, gate and up, logits.
struct NormInput {
  const float* x;  // [batch, stride]
  int stride;
  const float* weight;  // [columns]
  float epsilon;
};

// Outputs: what becomes of a product's results.

// out = value (+ bias).
struct StoreOutput {
  float* out;  // [batch, stride]
  int stride;
  const float* bias;  // [rows] or nullptr
};
// hidden += value.
struct AddResidual {
  float* hidden;  // [batch, stride]
  int stride;
};
// out[i] = silu(value[2 i]) * value[2 i + 1]: the rows are gate's and up's by turns.
struct SwiGlu {
  float* out;  // [batch, stride]
  int stride;
};

// Of the device that a product runs on.
struct GemvDevice {
  int multiprocessors;
  std::size_t shared_bytes;  // of one multiprocessor
};

}  // namespace kernels
}  // namespace kvferry
