// Launchers of rotate_quantize.
#pragma once

#include <cmath>
#include <cstdint>
#include <string>

#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include "kvferry/compute/device/hadamard_block.hpp"

#include "kernels/launch.cuh"
#include "kernels/launch_status.cuh"
#include "kernels/rotate_quantize.cuh"

namespace kvferry {
namespace kernels {

inline bool is_input_aligned(const FloatRows& input) {
  return is_aligned(input.x, 16);
}
inline bool is_input_aligned(const HalfRows& input) {
  return is_aligned(input.x, 8);
}
inline bool is_input_aligned(const NormedRows& input) {
  return is_aligned(input.x, 16) && is_aligned(input.weight, 16);
}

// Rows of [rows, columns] to quants and scales: rotated in blocks of `block` (1: not), quantised.
// `block` is a power of two up to 128 that divides `columns`; `columns` is a multiple of 4 and at
// most kRotateMaxColumns. Pointers are device memory, aligned as the structs say.
template <typename Input>
LaunchStatus launch_rotate_quantize(const Input& input, int rows, int columns, int block,
                                    const QuantizedRows& out, cudaStream_t stream) {
  const std::string what = "rotate_quantize: " + std::to_string(rows) + " rows of " +
                           std::to_string(columns) + " columns, blocks of " + std::to_string(block);
  if (rows < 1) return invalid_launch(what + ": no rows");
  if (columns < 4 || columns % 4 != 0 || columns > kRotateMaxColumns) {
    return invalid_launch(what + ": columns must be a multiple of 4 from 4 to " +
                          std::to_string(kRotateMaxColumns));
  }
  if (block < 1 || block > kFfnRotation || (block & (block - 1)) != 0 || columns % block != 0) {
    return invalid_launch(what + ": blocks must be a power of two up to " +
                          std::to_string(kFfnRotation) + " that divides the columns");
  }
  if (!is_input_aligned(input) || !is_aligned(out.quants, 8) || !is_aligned(out.scales, 4)) {
    return invalid_launch(what + ": a pointer is null or not aligned");
  }

  // The fewest values a thread: latency, not registers, is what a short row costs.
  int chunks = 1;
  const int padded = padded_columns(columns);
  while (padded > chunks * kRotateMaxThreads * kHadamardValues) chunks *= 2;
  const int share = 32 * kHadamardValues * chunks;  // of a warp
  const unsigned threads = static_cast<unsigned>((padded + share - 1) / share) * 32;
  const LaunchShape shape = {dim3(static_cast<unsigned>(rows)), dim3(threads),
                             sizeof(RotateQuantizeShared), stream};
  const float unit = static_cast<float>(1.0 / (127.0 * std::sqrt(static_cast<double>(block))));
  const RotateQuantizeParams<Input> params = {input, out, columns, padded, block, unit};
  switch (chunks) {
    case 1:
      return launched(launch(shape, rotate_quantize<Input, 1>, params), what);
    case 2:
      return launched(launch(shape, rotate_quantize<Input, 2>, params), what);
    case 4:
      return launched(launch(shape, rotate_quantize<Input, 4>, params), what);
    default:
      return launched(launch(shape, rotate_quantize<Input, 8>, params), what);
  }
}

// Instantiated in src/compute/ampere.
extern template LaunchStatus launch_rotate_quantize(const FloatRows&, int, int, int,
                                                    const QuantizedRows&, cudaStream_t);
extern template LaunchStatus launch_rotate_quantize(const HalfRows&, int, int, int,
                                                    const QuantizedRows&, cudaStream_t);
extern template LaunchStatus launch_rotate_quantize(const NormedRows&, int, int, int,
                                                    const QuantizedRows&, cudaStream_t);

}  // namespace kernels
}  // namespace kvferry
