// RoPE: the rotation itself. Every scaling scheme (linear, NTK, Llama 3, YaRN) reduces to one
// inverse frequency per pair and one attention scale, so nothing downstream knows the schemes.
#pragma once

#include <cstdint>
#include <vector>

namespace kvferry {

// Which two values of a head form a rotated pair.
enum class RopeLayout : std::uint8_t {
  kInterleaved = 0,  // (2i, 2i+1): llama GGUF files
  kSplitHalves = 1,  // (i, i + rotated/2): qwen2, qwen3
};

// Pair i of a head at position p is rotated by the angle p * inverse_frequency[i]; cos and sin are
// multiplied by attention_scale (YaRN; 1 elsewhere). Values past 2 * inverse_frequency.size() pass.
struct RopeSpec {
  RopeLayout layout = RopeLayout::kInterleaved;
  std::vector<float> inverse_frequency;  // [rotated / 2]
  float attention_scale = 1.0f;

  // Number of values of a head that are rotated; at most head_dim.
  std::uint32_t rotated() const { return static_cast<std::uint32_t>(2 * inverse_frequency.size()); }

  bool operator==(const RopeSpec& o) const {
    return layout == o.layout && inverse_frequency == o.inverse_frequency &&
           attention_scale == o.attention_scale;
  }
  bool operator!=(const RopeSpec& o) const { return !(*this == o); }
};

}  // namespace kvferry
