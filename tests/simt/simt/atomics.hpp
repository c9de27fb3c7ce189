// CUDA's atomic operations on shared and global memory. C++14.
//
// A block that is not the first of those still running waits for the ones before it when it comes
// to a global atomic, so that their order, and with it every sum of floats, is that of the blocks.
#pragma once

#include "simt/site.hpp"

namespace simt {

// To be called before an atomic operation on `size` bytes: checks the address and waits for the
// block's turn.
void begin_atomic(const void* pointer, unsigned size, const char* operation, Site site);

// The operation itself is plain: no other lane runs meanwhile. Not instrumented: the race build
// learns of it from begin_atomic.
template <typename T, typename Change>
__attribute__((no_sanitize("thread"))) T atomically(T* pointer, const char* operation, Site site,
                                                    Change change) {
  begin_atomic(pointer, sizeof(T), operation, site);
  const T old = *pointer;
  *pointer = change(old);
  return old;
}

}  // namespace simt

inline int atomicAdd(int* pointer, int value, simt::Site site = simt::Site::here()) {
  return simt::atomically(pointer, "atomicAdd", site, [value](int old) {
    return static_cast<int>(static_cast<unsigned>(old) + static_cast<unsigned>(value));
  });
}
inline unsigned atomicAdd(unsigned* pointer, unsigned value, simt::Site site = simt::Site::here()) {
  return simt::atomically(pointer, "atomicAdd", site,
                          [value](unsigned old) { return old + value; });
}
inline float atomicAdd(float* pointer, float value, simt::Site site = simt::Site::here()) {
  return simt::atomically(pointer, "atomicAdd", site, [value](float old) { return old + value; });
}
// The counter of a ring: 0 after `last`.
inline unsigned atomicInc(unsigned* pointer, unsigned last, simt::Site site = simt::Site::here()) {
  return simt::atomically(pointer, "atomicInc", site,
                          [last](unsigned old) { return old >= last ? 0u : old + 1; });
}
template <typename T>
T atomicMax(T* pointer, T value, simt::Site site = simt::Site::here()) {
  return simt::atomically(pointer, "atomicMax", site,
                          [value](T old) { return old < value ? value : old; });
}
template <typename T>
T atomicMin(T* pointer, T value, simt::Site site = simt::Site::here()) {
  return simt::atomically(pointer, "atomicMin", site,
                          [value](T old) { return value < old ? value : old; });
}
template <typename T>
T atomicExch(T* pointer, T value, simt::Site site = simt::Site::here()) {
  return simt::atomically(pointer, "atomicExch", site, [value](T) { return value; });
}
template <typename T>
T atomicCAS(T* pointer, T expected, T value, simt::Site site = simt::Site::here()) {
  return simt::atomically(pointer, "atomicCAS", site,
                          [=](T old) { return old == expected ? value : old; });
}
