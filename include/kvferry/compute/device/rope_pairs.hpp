// The channels of a head that RoPE rotates together. C++14: host and device code.
#pragma once

#if defined(__CUDACC__)
#define KVFERRY_HOST_DEVICE __host__ __device__
#else
#define KVFERRY_HOST_DEVICE
#endif

namespace kvferry {

struct ChannelPair {
  int first;
  int second;
};

// Pair p in [0, head_dim / 2) of a head of which the first `rotated` channels are rotated, those of
// a pair by the same angle; every channel is in one pair. `is_split` is RopeLayout::kSplitHalves.
KVFERRY_HOST_DEVICE constexpr ChannelPair rope_pair(int p, int rotated, bool is_split) {
  return is_split && 2 * p < rotated ? ChannelPair{p, p + rotated / 2}
                                     : ChannelPair{2 * p, 2 * p + 1};
}

}  // namespace kvferry

#undef KVFERRY_HOST_DEVICE
