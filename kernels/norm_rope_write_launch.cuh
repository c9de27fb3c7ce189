// Launcher of norm_rope_write.
#pragma once

#include <cuda_runtime.h>

#include "kernels/launch_status.cuh"
#include "kernels/norm_rope_write.cuh"

namespace kvferry {
namespace kernels {

// kInvalidArgument for heads above kNormRopeMaxHeadDim, no rows, pointers that are null or not
// aligned; nothing was launched then.
LaunchStatus launch_norm_rope_write(const NormRopeWriteParams& params, cudaStream_t stream);

}  // namespace kernels
}  // namespace kvferry
