// shared_storage<T>(): the block's shared memory, as the one struct that a kernel keeps there.
//
// The only way in which kernels reach shared memory. The launcher gives its size to launch().
#pragma once

#include <cuda_runtime.h>

namespace kvferry {
namespace kernels {

#if defined(__CUDACC__)

template <typename T>
__device__ T& shared_storage() {
  extern __shared__ uint4 kvferry_shared_storage[];
  return *reinterpret_cast<T*>(kvferry_shared_storage);
}

#else

template <typename T>
T& shared_storage() {
  return *static_cast<T*>(simt::shared_storage(sizeof(T)));
}

#endif

}  // namespace kernels
}  // namespace kvferry
