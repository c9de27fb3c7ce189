// What CUDA calls and launchers say, as a Status.
#pragma once

#include <string>

#include <cuda_runtime.h>

#include "kvferry/core/result.hpp"

#include "kernels/launch_status.cuh"

namespace kvferry::cuda {

inline Status check(cudaError_t status, const std::string& what) {
  if (status == cudaSuccess) return Status();
  return Error(ErrorCode::kIo, "CUDA: " + what + ": " + cudaGetErrorString(status));
}

inline Status check(const kernels::LaunchStatus& launched) {
  return launched.ok() ? Status() : Status(launched.error());
}

}  // namespace kvferry::cuda
