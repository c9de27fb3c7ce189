// A slow decoder of quantised blocks, written from docs/wire-format.md and docs/symbol-weights.txt
// alone: values one by one, bits one by one, doubles. It trusts its input.
#pragma once

#include <cstdint>
#include <vector>

#include "kvferry/codec/codebook.hpp"
#include "kvferry/core/span.hpp"

namespace kvferry::reference {

struct QuantisedBlock {
  std::vector<double> first_row;  // of position 0, [channels], or empty
  // Of the other tokens, [tokens, channels].
  std::vector<std::int32_t> quantised;
  std::vector<float> values;  // before the rotation
  std::vector<float> steps;   // of each value
  std::size_t escapes = 0;
  bool used_up = false;  // the streams ended with the last value
};

QuantisedBlock decode_quantised(Bytes block, std::size_t channels, const Codebook* codebook);

}  // namespace kvferry::reference
