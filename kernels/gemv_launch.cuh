// launch_gemv_of(): checks a matrix-vector product, chooses its kernel and grid, launches it.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <string>

#include <cuda_runtime.h>

#include "kernels/gemv.cuh"
#include "kernels/launch.cuh"
#include "kernels/launch_status.cuh"

namespace kvferry {
namespace kernels {

// What a block can have on every device without asking.
constexpr std::size_t kGemvSharedLimit = 48 * 1024;

// Vectors of so many columns that one launch takes; 0 when not even one fits.
inline int vectors_that_fit(int columns) {
  int vectors = kGemvMaxBatch;
  while (vectors > 0 && gemv_shared_bytes(vectors, columns) > kGemvSharedLimit) --vectors;
  return vectors;
}

// Why the matrix cannot be multiplied; nullptr when it can.
inline const char* refusal_of(const GemvMatrix& matrix) {
  if (matrix.rows < 1 || matrix.columns < 1) return "the matrix is empty";
  if (matrix.columns % octet::kGroupColumns != 0) {
    return "columns have to be a multiple of 32";
  }
  // Kernels count 16-byte parts in 31 bits.
  const long long octets = (static_cast<long long>(matrix.rows) + octet::kRows - 1) / octet::kRows;
  const long long octet_parts =
      matrix.columns / octet::kGroupColumns *
      static_cast<long long>(octet::group_bytes(matrix.format) / sizeof(octet::Part));
  if (octet_parts > std::numeric_limits<int>::max() / octets) {
    return "the matrix has too many weights";
  }
  if (vectors_that_fit(matrix.columns) == 0) {
    return "an input vector does not fit in 48 KB of shared memory";
  }
  // Of F16 weights that reach the largest number there is, and of whole numbers.
  if (matrix.input_exponent < -4 || matrix.input_exponent > 15) {
    return "the inputs' exponent is outside [-4, 15]";
  }
  if (!is_aligned(matrix.quants, alignof(octet::Part))) {
    return "weights have to be aligned to 16 bytes";
  }
  const bool has_scales = matrix.format != octet::Format::kF16;
  if (has_scales && !is_aligned(matrix.scales, 4)) {
    return "scales have to be aligned to 4 bytes";
  }
  return nullptr;
}

// Why the rows of x cannot be read; nullptr when they can.
inline const char* refusal_of(const PlainInput& input, int columns) {
  if (!is_aligned(input.x, sizeof(float4)) || input.stride % 4 != 0 || input.stride < columns) {
    return "input rows have to be aligned to 16 bytes and whole";
  }
  return nullptr;
}
inline const char* refusal_of(const NormInput& input, int columns) {
  if (!is_aligned(input.weight, sizeof(float4))) {
    return "the norm's weights have to be aligned to 16 bytes";
  }
  return refusal_of(PlainInput{input.x, input.stride}, columns);
}

// The same from row `first` on.
inline PlainInput advanced(const PlainInput& input, int first) {
  return {input.x + offset_of(first, input.stride, 0), input.stride};
}
inline NormInput advanced(const NormInput& input, int first) {
  return {input.x + offset_of(first, input.stride, 0), input.stride, input.weight, input.epsilon};
}

template <typename Format, int kBatch, typename Input, typename Output>
cudaError_t launch_gemv_kernel(const GemvParams<Input, Output>& params, const GemvDevice& device,
                               cudaStream_t stream) {
  const std::size_t shared = gemv_shared_bytes(kBatch, params.matrix.columns);
  // Persistent blocks: as many as run at once, no more than have work.
  const int fitting =
      static_cast<int>(std::min<std::size_t>(gemv_blocks(kBatch), device.shared_bytes / shared));
  const int rows_of_block = kGemvWarps * Format::kOctets * octet::kRows;
  const int blocks = std::min(device.multiprocessors * std::max(fitting, 1),
                              (params.matrix.rows + rows_of_block - 1) / rows_of_block);
  const LaunchShape shape = {dim3(static_cast<unsigned>(blocks)), dim3(kGemvThreads), shared,
                             stream};
  return launch(shape, gemv<Format, kBatch, Input, Output>, params);
}

template <typename Format, typename Input, typename Output>
cudaError_t launch_gemv_batch(const GemvParams<Input, Output>& params, int batch,
                              const GemvDevice& device, cudaStream_t stream) {
  switch (batch) {
    case 1:
      return launch_gemv_kernel<Format, 1>(params, device, stream);
    case 2:
      return launch_gemv_kernel<Format, 2>(params, device, stream);
    case 3:
      return launch_gemv_kernel<Format, 3>(params, device, stream);
    default:
      return launch_gemv_kernel<Format, 4>(params, device, stream);
  }
}

// output(W input) for `batch` vectors, 1 to 4. Vectors that do not fit in shared memory together
// take several launches.
template <typename Input, typename Output>
LaunchStatus launch_gemv_of(const GemvMatrix& matrix, const Input& input, const Output& output,
                            int batch, const GemvDevice& device, cudaStream_t stream) {
  if (const char* reason = refusal_of(matrix))
    return invalid_launch(std::string("gemv: ") + reason);
  if (const char* reason = refusal_of(input, matrix.columns))
    return invalid_launch(std::string("gemv: ") + reason);
  if (const char* reason = refusal_of(output, matrix.rows))
    return invalid_launch(std::string("gemv: ") + reason);
  if (batch < 1 || batch > kGemvMaxBatch) {
    return invalid_launch("gemv: takes one to four vectors");
  }
  if (device.multiprocessors < 1) {
    return invalid_launch("gemv: the device has no multiprocessors");
  }
  GemvMatrix checked = matrix;
  // Kernels count scales on though they do not read them.
  if (matrix.format == octet::Format::kF16) checked.scales = matrix.quants;
  const int most = vectors_that_fit(matrix.columns);
  for (int first = 0; first < batch; first += most) {
    const int vectors = std::min(most, batch - first);
    const GemvParams<Input, Output> params = {checked, advanced(input, first),
                                              advanced(output, first)};
    cudaError_t error = cudaErrorInvalidValue;
    switch (matrix.format) {
      case octet::Format::kF16:
        error = launch_gemv_batch<F16>(params, vectors, device, stream);
        break;
      case octet::Format::kW8:
        error = launch_gemv_batch<W8>(params, vectors, device, stream);
        break;
      case octet::Format::kW4:
        error = launch_gemv_batch<W4>(params, vectors, device, stream);
        break;
      case octet::Format::kW4Minimum:
        error = launch_gemv_batch<W4Minimum>(params, vectors, device, stream);
        break;
    }
    if (error != cudaSuccess) return launched(error, "gemv");
  }
  return LaunchStatus();
}

}  // namespace kernels
}  // namespace kvferry
