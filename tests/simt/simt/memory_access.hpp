// What device functions ask before they touch memory for a lane. C++14.
#pragma once

#include <cstddef>

#include "simt/site.hpp"

namespace simt {

// Ends the launch with an error unless [pointer, pointer + size) lies within one device or pinned
// allocation (check_global) or within the block's shared memory (check_shared), and `pointer` is a
// multiple of `alignment`. `operation` is a literal. Outside a kernel, which has no bounds, the
// checks pass.
void check_global(const void* pointer, std::size_t size, std::size_t alignment,
                  const char* operation, Site site);
void check_shared(const void* pointer, std::size_t size, std::size_t alignment,
                  const char* operation, Site site);

// The block's shared memory: `size` bytes, aligned to 128, all 0xFF when the block begins. More
// than the launch gives is an error.
void* shared_storage(std::size_t size, Site site = Site::here());

}  // namespace simt
