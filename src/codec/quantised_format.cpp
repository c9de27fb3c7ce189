#include "quantised_format.hpp"

#include <algorithm>

#include "coded_order.hpp"

namespace kvferry {

void ChannelSteps::set(std::int32_t step, const CodebookPlane* plane, std::size_t channels) {
  exponents_.resize(channels);
  steps_.resize((kMaxTokenClass + std::size_t{1}) * channels);
  for (std::size_t c = 0; c < channels; ++c) {
    exponents_[c] = step + (plane == nullptr ? 0 : plane->weights[c]);
    for (std::int32_t token_class = 0; token_class <= kMaxTokenClass; ++token_class) {
      steps_[static_cast<std::size_t>(token_class) * channels + c] =
          exp2_eighths(exponents_[c] - 8 * token_class);
    }
  }
}

void expected_ids(const ChannelSteps& steps, const CodebookPlane* plane, std::size_t channels,
                  std::vector<std::uint8_t>& ids) {
  ids.resize(channels);
  for (std::size_t c = 0; c < channels; ++c) {
    if (plane == nullptr) {
      ids[c] = 0;
      continue;
    }
    // Quarter octaves of the spread in steps; n of coded_order.hpp is 14 more.
    const std::int32_t eighths = 2 * plane->spreads[c] - steps.exponent(c) + 2 * 14;
    const std::int32_t n = eighths < 0 ? 0 : (eighths + 1) / 2;
    ids[c] = static_cast<std::uint8_t>(std::min<std::int32_t>(2 * n, kIds - 2));
  }
}

void put_varint(std::uint32_t value, std::vector<std::uint8_t>& out) {
  for (; value >= 0x80; value >>= 7) out.push_back(static_cast<std::uint8_t>(value | 0x80));
  out.push_back(static_cast<std::uint8_t>(value));
}

bool read_varint(ByteReader& reader, std::uint32_t& value) {
  value = 0;
  for (std::uint32_t shift = 0; shift < 35; shift += 7) {
    const std::uint8_t byte = reader.u8();
    if (!reader.ok() || (shift == 28 && byte > 0x0f)) return false;
    value |= static_cast<std::uint32_t>(byte & 0x7f) << shift;
    if ((byte & 0x80) == 0) return true;
  }
  return false;
}

}  // namespace kvferry
