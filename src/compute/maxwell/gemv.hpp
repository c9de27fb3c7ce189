// The matrix-vector products of path::MaxwellFp16, compiled by nvcc. C++14.
#pragma once

#include <cuda_runtime.h>

#include "kvferry/compute/device/gemv.hpp"

#include "kernels/launch_status.cuh"

namespace kvferry {
namespace kernels {

// Starts output(matrix · input) for 1 to kGemvMaxBatch vectors on `stream`; results do not depend
// on the device or the batch. Refused, with the reason: what is empty, misaligned or too large.
LaunchStatus launch_gemv(const GemvMatrix& matrix, const NormInput& input,
                         const StoreOutput& output, int batch, const GemvDevice& device,
                         cudaStream_t stream);
LaunchStatus launch_gemv(const GemvMatrix& matrix, const NormInput& input, const RopeAppend& output,
                         int batch, const GemvDevice& device, cudaStream_t stream);
LaunchStatus launch_gemv(const GemvMatrix& matrix, const NormInput& input, const SwiGlu& output,
                         int batch, const GemvDevice& device, cudaStream_t stream);
LaunchStatus launch_gemv(const GemvMatrix& matrix, const PlainInput& input,
                         const AddResidual& output, int batch, const GemvDevice& device,
                         cudaStream_t stream);

// Vectors of so many columns that fit in shared memory together: more take several launches.
int gemv_vectors(int columns);

}  // namespace kernels
}  // namespace kvferry
