// Q, K and V of models that norm each head, compiled by nvcc. C++14.
#pragma once

#include <cuda_runtime.h>

#include "kvferry/compute/device/gemv.hpp"

#include "kernels/launch_status.cuh"

namespace kvferry {
namespace kernels {

// Starts on `stream`, for `batch` vectors: norms Q's and K's heads and does with Q, K and V what
// RopeAppend says; its bias is not looked at. Refused, with the reason: what is missing or does not
// fit together.
LaunchStatus launch_norm_rope_append(const HeadRows& input, const RopeAppend& output, int batch,
                                     cudaStream_t stream);

}  // namespace kernels
}  // namespace kvferry
