// CUDA's barriers and warp collectives. C++14.
//
// The lanes of a mask meet: the caller is in its mask, no lane of the mask has exited, and all call
// the same function with the same mask on the same line; everything else ends the launch.
#pragma once

#include <cstdint>
#include <cstring>

#include "simt/site.hpp"

namespace simt {

enum class Shuffle { kIndex, kUp, kDown, kXor };
enum class Vote { kBallot, kAny, kAll };

// Stricter than the device: a thread that has exited may not be waited for, and all call on one
// line.
void sync_threads(Site site);
void sync_warp(unsigned mask, Site site);
// The lane read must be in the mask; `width` is a power of two up to 32.
std::uint64_t shuffle(Shuffle kind, unsigned mask, std::uint64_t bits, int argument, int width,
                      Site site);
unsigned vote(Vote kind, unsigned mask, bool predicate, Site site);
// A fence orders the thread's accesses for the race build (race/detector.hpp); nothing else does
// anything with it.
void fence();

template <typename T>
T shuffled(Shuffle kind, unsigned mask, T value, int argument, int width, Site site) {
  static_assert(sizeof(T) == 4 || sizeof(T) == 8, "as CUDA's shuffles take it");
  std::uint64_t bits = 0;
  std::memcpy(&bits, &value, sizeof value);
  bits = shuffle(kind, mask, bits, argument, width, site);
  std::memcpy(static_cast<void*>(&value), &bits, sizeof value);
  return value;
}

}  // namespace simt

inline void __syncthreads(simt::Site site = simt::Site::here()) {
  simt::sync_threads(site);
}
inline void __syncwarp(unsigned mask = 0xffffffffu, simt::Site site = simt::Site::here()) {
  simt::sync_warp(mask, site);
}
inline void __threadfence() {
  simt::fence();
}

template <typename T>
T __shfl_sync(unsigned mask, T value, int lane, int width = 32,
              simt::Site site = simt::Site::here()) {
  return simt::shuffled(simt::Shuffle::kIndex, mask, value, lane, width, site);
}
template <typename T>
T __shfl_up_sync(unsigned mask, T value, unsigned distance, int width = 32,
                 simt::Site site = simt::Site::here()) {
  return simt::shuffled(simt::Shuffle::kUp, mask, value, static_cast<int>(distance), width, site);
}
template <typename T>
T __shfl_down_sync(unsigned mask, T value, unsigned distance, int width = 32,
                   simt::Site site = simt::Site::here()) {
  return simt::shuffled(simt::Shuffle::kDown, mask, value, static_cast<int>(distance), width, site);
}
template <typename T>
T __shfl_xor_sync(unsigned mask, T value, int lane_mask, int width = 32,
                  simt::Site site = simt::Site::here()) {
  return simt::shuffled(simt::Shuffle::kXor, mask, value, lane_mask, width, site);
}

inline unsigned __ballot_sync(unsigned mask, int predicate, simt::Site site = simt::Site::here()) {
  return simt::vote(simt::Vote::kBallot, mask, predicate != 0, site);
}
inline int __any_sync(unsigned mask, int predicate, simt::Site site = simt::Site::here()) {
  return static_cast<int>(simt::vote(simt::Vote::kAny, mask, predicate != 0, site));
}
inline int __all_sync(unsigned mask, int predicate, simt::Site site = simt::Site::here()) {
  return static_cast<int>(simt::vote(simt::Vote::kAll, mask, predicate != 0, site));
}
