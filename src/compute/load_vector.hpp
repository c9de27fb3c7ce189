// Norm weights and biases as F32.
#pragma once

#include <vector>

#include "kvferry/compute/dequantise.hpp"
#include "kvferry/model/tensor.hpp"

namespace kvferry {

// The tensor's one row; nothing for an empty view.
inline std::vector<float> load_vector(const TensorView& tensor) {
  std::vector<float> values(tensor.empty() ? 0 : static_cast<std::size_t>(tensor.columns));
  if (!values.empty()) dequantise_row(tensor, 0, values);
  return values;
}

}  // namespace kvferry
