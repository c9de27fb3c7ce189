// Where device code finds a token in the cache's blocks.
#pragma once

#include <cstddef>
#include <cstdint>

#include <cuda_runtime.h>

#include "kernels/attention.cuh"

namespace kvferry {
namespace kernels {

// The row of `position`, [head_dim] of one head: of keys or values, as the plane's offset says.
template <int kHeadDim>
__device__ const uint4* cache_row(const CacheBlock* blocks, std::size_t plane_offset,
                                  std::uint32_t kv_head, std::uint32_t position) {
  const CacheBlock block = blocks[position / kCacheBlockTokens];
  const std::size_t row = kv_head * kCacheBlockTokens + position % kCacheBlockTokens;
  return reinterpret_cast<const uint4*>(block + plane_offset) + row * (kHeadDim / 8);
}

}  // namespace kernels
}  // namespace kvferry
