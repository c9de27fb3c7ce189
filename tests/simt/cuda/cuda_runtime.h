// The part of CUDA that the kernels and their launchers use, on the CPU. C++14.
//
// Found in place of the toolkit's header. `__shared__` and `<<<>>>` do not exist here:
// kernels/shared_storage.cuh and kernels/launch.cuh stand for them.
#pragma once

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline __attribute__((always_inline))
#define __launch_bounds__(...)
#define __align__(bytes) __attribute__((aligned(bytes)))

#include "simt/atomics.hpp"
#include "simt/device_functions.hpp"
#include "simt/launch.hpp"
#include "simt/memory_access.hpp"
#include "simt/runtime_api.hpp"
#include "simt/vector_types.hpp"
#include "simt/warp_functions.hpp"
