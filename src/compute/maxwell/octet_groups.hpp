// Groups of 32 weights of one row in the formats of path::MaxwellFp16.
#pragma once

#include <cstdint>

#include "kvferry/compute/device/octet_layout.hpp"
#include "kvferry/core/half.hpp"
#include "kvferry/model/tensor.hpp"

namespace kvferry::maxwell {

// weight = scale * q + minimum: kW8 |q| <= 127; kW4 q = -8 to 7; kW4Minimum q = 0 to 15.
struct QuantisedGroup {
  Half scale;
  Half minimum;  // kW4Minimum only
  std::int8_t q[octet::kGroupColumns];
};

// Whether groups of this type keep their whole numbers in the format, and whether their scales are
// F16 numbers of the file, too. False for kF16.
bool keeps_groups(TensorType type, octet::Format format);
bool is_exact(TensorType type, octet::Format format);

// The largest magnitude of what becomes F16 in group `index` of a row of blocks that keeps its
// groups; NaN when there is a NaN among it.
float parameter_extent(TensorType type, octet::Format format, const std::uint8_t* row,
                       std::size_t index);

// Group `index` of a row that keeps its groups, with its parameters times `inverse`. False when a
// whole number is out of the format's range: Q8_0's -128.
bool keep_group(TensorType type, octet::Format format, const std::uint8_t* row, std::size_t index,
                float inverse, QuantisedGroup& out);

// 32 values, quantised. Magnitudes are below 2^15.
void quantise_group(octet::Format format, const float* values, QuantisedGroup& out);

}  // namespace kvferry::maxwell
