// Reads the quantised blocks of GGUF tensors as groups of 32 whole numbers with their parameters.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kvferry/compute/cpu/packed_matrix.hpp"
#include "kvferry/model/tensor.hpp"

namespace kvferry::cpu {

// How groups of a tensor type are held when packed.
struct GroupForm {
  WeightFormat format;
  std::int32_t zero_point;
  bool has_minimum;
  bool has_half_groups;
  bool has_f16_parameters;  // scales and minimums are F16 numbers of the file
};

// False for F32, F16 and BF16, which have no groups.
bool group_form(TensorType type, GroupForm& form);

// 32 inputs of a row: weight = scale * (q - zero_point) + minimum, or the second half of them
// second_scale * (q - zero_point).
struct WeightGroup {
  float scale;
  float second;  // minimum or scale of the second half; 0 where there is neither
  std::uint8_t q[32];
};

// Group `index` of the row of blocks at `row`.
void read_parameters(TensorType type, const std::uint8_t* row, std::size_t index,
                     WeightGroup& group);
void read_group(TensorType type, const std::uint8_t* row, std::size_t index, WeightGroup& group);

}  // namespace kvferry::cpu
