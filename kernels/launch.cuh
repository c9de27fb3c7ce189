// launch(): starts a kernel that takes one Params struct.
//
// In place of <<<>>>, which only nvcc reads: kernels and their launchers are plain C++14, so that
// another compiler can build them against an emulation of the device (tests/simt).
#pragma once

#include <cstddef>

#include <cuda_runtime.h>

#include "kernels/shared_storage.cuh"

namespace kvferry {
namespace kernels {

struct LaunchShape {
  dim3 grid;
  dim3 block;
  std::size_t shared_bytes;  // of the kernel's shared_storage()
  cudaStream_t stream;
};

#if defined(__CUDACC__)

// Shared memory above this needs the kernel's leave.
constexpr std::size_t kDefaultSharedBytes = 48 * 1024;

// The error of the launch itself; what the kernel does wrong comes with a later call.
template <typename Params>
cudaError_t launch(const LaunchShape& shape, void (*kernel)(Params), Params params) {
  const void* function = reinterpret_cast<const void*>(kernel);
  if (shape.shared_bytes > kDefaultSharedBytes) {
    const cudaError_t status =
        cudaFuncSetAttribute(function, cudaFuncAttributeMaxDynamicSharedMemorySize,
                             static_cast<int>(shape.shared_bytes));
    if (status != cudaSuccess) return status;
  }
  void* arguments[] = {&params};
  return cudaLaunchKernel(function, shape.grid, shape.block, arguments, shape.shared_bytes,
                          shape.stream);
}

#else

template <typename Params>
cudaError_t launch(const LaunchShape& shape, void (*kernel)(Params), Params params) {
  return simt::launch(shape.grid, shape.block, shape.shared_bytes, shape.stream,
                      reinterpret_cast<const void*>(kernel), [kernel, params] { kernel(params); });
}

#endif

}  // namespace kernels
}  // namespace kvferry
