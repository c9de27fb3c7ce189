// What the matrix-vector kernels of path::MaxwellFp16 compute, operation by operation, in plain C++
// with its own index arithmetic: the emulated kernels must give the same bits.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "kvferry/compute/maxwell/octet_matrix.hpp"

namespace gemv_model {

// x / sqrt(mean(x^2) + epsilon) * weight as the kernels' prologue computes it.
std::vector<float> normed(const std::vector<float>& x, const std::vector<float>& weight,
                          float epsilon);

// W x, [rows], before the epilogue; x has the matrix's columns.
std::vector<float> product(const kvferry::maxwell::OctetMatrix& matrix,
                           const std::vector<float>& x);

// silu(gate) * up as the kernels' epilogue computes it.
float swiglu(float gate, float up);

// The same product in F64 from the weights as unpacked, and what the kernels' result may be off by:
// see the .cpp file.
struct Reference {
  std::vector<double> values;      // [rows]
  std::vector<double> tolerances;  // [rows]
};
Reference reference(const kvferry::maxwell::OctetMatrix& matrix, const std::vector<float>& x);

}  // namespace gemv_model
