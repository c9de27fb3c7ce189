#include "kvferry/compute/reference_product.hpp"

#include <algorithm>
#include <string>

#include "kvferry/compute/dequantise.hpp"

#include "reference_kernels.hpp"

namespace kvferry {

static_assert(ReferenceMatrix::kPanelRows == reference::kPanel, "a lane is an output");

Result<ReferenceMatrix> ReferenceMatrix::load(const TensorView& tensor, ThreadPool& pool) {
  if (tensor.rows == 0 || tensor.columns == 0 || tensor.columns % block_values(tensor.type) != 0 ||
      tensor.data.size() / tensor.rows != tensor.row_bytes() ||
      tensor.data.size() % tensor.rows != 0) {
    return Error(ErrorCode::kMalformed, "matrix: " + std::to_string(tensor.rows) + " rows of " +
                                            std::to_string(tensor.columns) +
                                            " values do not fill " +
                                            std::to_string(tensor.data.size()) + " bytes");
  }
  ReferenceMatrix m;
  m.rows_ = static_cast<std::size_t>(tensor.rows);
  m.columns_ = static_cast<std::size_t>(tensor.columns);
  m.values_.resize(m.panels() * m.columns_ * kPanelRows);
  pool.parallel_for(m.panels(), 4, [&](std::size_t begin, std::size_t end, std::size_t) {
    std::vector<float> row(m.columns_);
    for (std::size_t r = begin * kPanelRows; r < std::min(end * kPanelRows, m.rows_); ++r) {
      dequantise_row(tensor, r, row);
      float* out = m.values_.data() + r / kPanelRows * m.columns_ * kPanelRows + r % kPanelRows;
      for (std::size_t c = 0; c < m.columns_; ++c) out[c * kPanelRows] = row[c];
    }
  });
  return m;
}

void multiply_plain(const ReferenceMatrix& matrix, const float* x, std::size_t rows, float* out,
                    std::size_t out_stride) {
  for (std::size_t r = 0; r < rows; ++r) {
    for (std::size_t o = 0; o < matrix.rows(); ++o) {
      float sum = 0.0f;
      for (std::size_t i = 0; i < matrix.columns(); ++i) {
        sum += x[r * matrix.columns() + i] * matrix.at(o, i);
      }
      out[r * out_stride + o] = sum;
    }
  }
}

void multiply_blocked(const ReferenceMatrix& matrix, const float* x, std::size_t rows, float* out,
                      std::size_t out_stride, ThreadPool& pool, std::vector<float>& packed) {
  const reference::Kernels& kernels = reference::kernels();
  const std::size_t tile_rows = static_cast<std::size_t>(kernels.tile_rows);
  const std::size_t columns = matrix.columns();
  const std::size_t tiles = (rows + tile_rows - 1) / tile_rows;
  const auto rows_in = [&](std::size_t tile) {
    return std::min(tile_rows, rows - tile * tile_rows);
  };

  // [tiles, columns, rows of the tile]: what a tile reads next lies next.
  packed.resize(std::max(packed.size(), rows * columns));
  pool.parallel_for(tiles, 1, [&](std::size_t begin, std::size_t end, std::size_t) {
    for (std::size_t t = begin; t < end; ++t) {
      const std::size_t n = rows_in(t);
      const float* from = x + t * tile_rows * columns;
      float* to = packed.data() + t * tile_rows * columns;
      for (std::size_t i = 0; i < columns; ++i) {
        for (std::size_t r = 0; r < n; ++r) to[i * n + r] = from[r * columns + i];
      }
    }
  });

  pool.parallel_for(matrix.panels(), 2, [&](std::size_t begin, std::size_t end, std::size_t) {
    float sums[reference::kMaxRows * reference::kPanel];
    for (std::size_t p = begin; p < end; ++p) {
      const std::size_t first = p * reference::kPanel;
      const std::size_t lanes = std::min<std::size_t>(reference::kPanel, matrix.rows() - first);
      for (std::size_t t = 0; t < tiles; ++t) {
        const std::size_t n = rows_in(t);
        kernels.tile(matrix.panel(p), packed.data() + t * tile_rows * columns, columns,
                     static_cast<int>(n), sums);
        for (std::size_t r = 0; r < n; ++r) {
          std::copy_n(sums + r * reference::kPanel, lanes,
                      out + (t * tile_rows + r) * out_stride + first);
        }
      }
    }
  });
}

}  // namespace kvferry
