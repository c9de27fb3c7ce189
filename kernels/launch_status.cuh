// LaunchStatus: what a launcher returns.
#pragma once

#include <cuda_runtime.h>

namespace kvferry {
namespace kernels {

// Success, a refusal with its reason (nothing was launched), or the runtime's error of the launch.
// What kernels do wrong comes with a later call of the runtime.
struct LaunchStatus {
  cudaError_t error;
  const char* refusal;  // a literal; nullptr when it was not refused

  bool ok() const { return error == cudaSuccess; }
};

inline LaunchStatus refused(const char* reason) {
  return {cudaErrorInvalidValue, reason};
}
inline LaunchStatus launched(cudaError_t error) {
  return {error, nullptr};
}

}  // namespace kernels
}  // namespace kvferry
