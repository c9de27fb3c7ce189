// Matrix products on the CPU: activations [rows, inputs] times packed weights [outputs, inputs].
#pragma once

#include <cstddef>
#include <cstdint>

#include "kvferry/compute/cpu/aligned_buffer.hpp"
#include "kvferry/compute/cpu/isa.hpp"
#include "kvferry/compute/cpu/packed_matrix.hpp"
#include "kvferry/core/span.hpp"
#include "kvferry/core/thread_pool.hpp"

namespace kvferry::cpu {

// How the input of a product is held. Of the two integer formats, kInt16 costs twice the
// multiplications and is for inputs with massive channels (the input of `down`).
enum class ActivationFormat : std::uint8_t {
  kF32 = 0,    // for F16 weights
  kInt8 = 1,   // groups of 32 columns: an F32 scale, whole numbers within ±127
  kInt16 = 2,  // the same within ±32639, held as two INT8 terms: 256 * high + low
};

// The format for inputs of a matrix held as `weights`: kF32 for F16 weights, else `integers`.
inline ActivationFormat activation_format_for(WeightFormat weights, ActivationFormat integers) {
  return weights == WeightFormat::kF16 ? ActivationFormat::kF32 : integers;
}

// Rows of inputs, laid out for the product. Keeps its memory between uses; one writer at a time.
class Activations {
 public:
  // Rows that lie interleaved, group by group.
  static constexpr std::size_t kTileRows = 8;

  // Makes room; the contents are undefined until quantize(). Integer formats need columns that are
  // a multiple of 32 (asserted).
  void resize(std::size_t rows, std::size_t columns, ActivationFormat format);

  std::size_t rows() const { return rows_; }
  std::size_t columns() const { return columns_; }
  ActivationFormat format() const { return format_; }

  // What follows is the layout that the kernels read: [tiles, units, tile_rows(), unit bytes]. A
  // unit is a group of 32 columns (F32 scale, F32 scale * sum, I32 sum, I32 sum of the first 16
  // columns, then 32 INT8 of the one or the high term, then 32 of the low term) or one F32 column.
  std::size_t tile_rows() const { return tile_rows_; }
  std::size_t unit_bytes() const { return unit_bytes_; }
  std::size_t units() const { return units_; }
  std::uint8_t* tile(std::size_t index) { return data_.data() + index * tile_bytes(); }
  const std::uint8_t* tile(std::size_t index) const { return data_.data() + index * tile_bytes(); }

 private:
  std::size_t tile_bytes() const { return units_ * tile_rows_ * unit_bytes_; }

  std::size_t rows_ = 0;
  std::size_t columns_ = 0;
  ActivationFormat format_ = ActivationFormat::kF32;
  std::size_t tile_rows_ = 1;
  std::size_t unit_bytes_ = 0;
  std::size_t units_ = 0;
  AlignedBuffer data_;
};

// Fills `out`, which resize() has given its shape and format, from F32 rows `in`, `in_stride`
// floats apart. Rounds to nearest. A group whose largest magnitude is below 2^-100 becomes zero;
// one that holds an infinity or a NaN makes every product with it NaN.
void quantize(const Kernels& kernels, ThreadPool& pool, const float* in, std::size_t in_stride,
              Activations& out);

// One product: out[r][o] = sum over inputs of input[r][i] * matrix[o][i] (+ bias[o]), or that added
// to what `out` holds. Does not own what it points to.
struct Product {
  const PackedMatrix* matrix = nullptr;
  const Activations* input = nullptr;  // columns as the matrix has, format as its format needs
  float* out = nullptr;         // [rows of input, out_stride]; the first matrix->rows() written
  std::size_t out_stride = 0;   // floats
  const float* bias = nullptr;  // [matrix->rows()], or none
  bool accumulate = false;      // residual connection: add to `out`
};

// Computes the products in one parallel region (q, k and v, or gate and up, together). A row's
// result has the same bits whatever the other rows, the split into calls and the thread count: sums
// of 32 are exact whole numbers (one rounding to F32), and F32 sums run over groups in order.
void multiply(const Kernels& kernels, ThreadPool& pool, Span<const Product> products);

}  // namespace kvferry::cpu
