// What quantised blocks (BlockMethod::kQuantised) are made of besides coded values.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "kvferry/codec/block_format.hpp"
#include "kvferry/codec/codebook.hpp"
#include "kvferry/core/bytes.hpp"

namespace kvferry {

// |step| of a block; with a weight and a mean's finer step it stays within kMaxEighths.
constexpr std::int32_t kMaxBlockStep = 320;
// A mean's correction is counted in quarters of the channel's step.
constexpr std::int32_t kMeanStep = -16;

// Bits of the flags.
constexpr std::uint8_t kFourLanes = 1;
constexpr std::uint8_t kHasIds = 2;
constexpr std::uint8_t kHasMeans = 4;

// Steps of one block, [channels].
class ChannelSteps {
 public:
  // `plane` may be null.
  void set(std::int32_t step, const CodebookPlane* plane, std::size_t channels);

  std::int32_t exponent(std::size_t channel) const { return exponents_[channel]; }
  const float* steps(std::uint32_t token_class) const {
    return steps_.data() + token_class * exponents_.size();
  }
  // A step of the channel's mean.
  float mean_step(std::size_t channel) const {
    return exp2_eighths(exponents_[channel] + kMeanStep);
  }

 private:
  std::vector<std::int32_t> exponents_;
  std::vector<float> steps_;  // [kMaxTokenClass + 1, channels]
};

// The table ids that a block has when it states none: from the codebook's spreads, or 0.
void expected_ids(const ChannelSteps& steps, const CodebookPlane* plane, std::size_t channels,
                  std::vector<std::uint8_t>& ids);

// The codebook's mean of a channel, 0 without one.
inline float codebook_mean(const CodebookPlane* plane, std::size_t channel) {
  return plane == nullptr ? 0.0f : to_float(plane->means[channel]);
}

// Unsigned integers in groups of seven bits, lowest first; the highest bit of a byte says that more
// follow.
void put_varint(std::uint32_t value, std::vector<std::uint8_t>& out);
// 0 and a failed reader when it does not end within 32 bits.
bool read_varint(ByteReader& reader, std::uint32_t& value);

inline std::uint32_t zigzag(std::int32_t v) {
  return (static_cast<std::uint32_t>(v) << 1) ^ static_cast<std::uint32_t>(v >> 31);
}
inline std::int32_t unzigzag(std::uint32_t u) {
  return static_cast<std::int32_t>((u >> 1) ^ (0u - (u & 1)));
}

}  // namespace kvferry
