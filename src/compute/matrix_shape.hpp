// Whether the bytes of a weight matrix are what its shape says.
#pragma once

#include <string>

#include "kvferry/core/result.hpp"
#include "kvferry/model/tensor.hpp"

namespace kvferry {

// "Q4_K matrix of 576 x 1536".
inline std::string describe_matrix(const TensorView& tensor) {
  return std::string(name_of(tensor.type)) + " matrix of " + std::to_string(tensor.rows) + " x " +
         std::to_string(tensor.columns);
}

// kInvalidArgument when the matrix is empty, when its columns are not whole blocks, or when the
// size of its bytes is another.
inline Status check_matrix(const TensorView& tensor) {
  const std::uint64_t block = block_values(tensor.type);
  if (tensor.rows == 0 || tensor.columns == 0 || tensor.columns % block != 0) {
    return Error(ErrorCode::kInvalidArgument, describe_matrix(tensor) +
                                                  ": needs rows, and columns in whole blocks of " +
                                                  std::to_string(block));
  }
  const std::uint64_t size = tensor.data.size();
  if (tensor.columns / block > size / block_bytes(tensor.type)) {
    return Error(
        ErrorCode::kInvalidArgument,
        describe_matrix(tensor) + ": " + std::to_string(size) + " bytes are less than one row");
  }
  const std::uint64_t row_bytes = tensor.row_bytes();
  if (size % row_bytes != 0 || size / row_bytes != tensor.rows) {
    return Error(ErrorCode::kInvalidArgument, describe_matrix(tensor) + ": has " +
                                                  std::to_string(size) + " bytes, a row of it " +
                                                  std::to_string(row_bytes));
  }
  return Status();
}

}  // namespace kvferry
