// Matrix products in F32 over dequantised weights, twice: plain loops, and blocked for speed.
#pragma once

#include <cstddef>
#include <vector>

#include "kvferry/core/result.hpp"
#include "kvferry/core/span.hpp"
#include "kvferry/core/thread_pool.hpp"
#include "kvferry/model/tensor.hpp"

namespace kvferry {

// A dequantised matrix. Sixteen rows form a panel in which the rows lie side by side, so that a
// vector lane is an output and every output is one sum over the inputs in ascending order.
class ReferenceMatrix {
 public:
  static constexpr std::size_t kPanelRows = 16;

  ReferenceMatrix() = default;  // no rows
  // kMalformed when the bytes do not have the size that the shape says.
  static Result<ReferenceMatrix> load(const TensorView& tensor, ThreadPool& pool);

  std::size_t rows() const { return rows_; }        // outputs
  std::size_t columns() const { return columns_; }  // inputs
  std::size_t panels() const { return (rows_ + kPanelRows - 1) / kPanelRows; }
  // [columns, kPanelRows]; rows past the matrix are zero.
  const float* panel(std::size_t index) const {
    return values_.data() + index * columns_ * kPanelRows;
  }
  float at(std::size_t row, std::size_t column) const {
    return panel(row / kPanelRows)[column * kPanelRows + row % kPanelRows];
  }

 private:
  std::size_t rows_ = 0;
  std::size_t columns_ = 0;
  std::vector<float> values_;  // [panels, columns, kPanelRows]
};

// out[r][o] = sum over i of x[r][i] * matrix[o][i] in plain loops. x [rows, columns],
// out [rows, out_stride].
void multiply_plain(const ReferenceMatrix& matrix, const float* x, std::size_t rows, float* out,
                    std::size_t out_stride);

// The same, blocked, with vector instructions, on all threads. The result has the same bits for any
// number of rows and threads. `packed` is working memory, kept between calls.
void multiply_blocked(const ReferenceMatrix& matrix, const float* x, std::size_t rows, float* out,
                      std::size_t out_stride, ThreadPool& pool, std::vector<float>& packed);

}  // namespace kvferry
