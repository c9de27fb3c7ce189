// Int8Matrix: a weight matrix converted once at load for the INT8 tensor-core products.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "kvferry/core/result.hpp"
#include "kvferry/core/span.hpp"
#include "kvferry/core/thread_pool.hpp"
#include "kvferry/model/config.hpp"
#include "kvferry/model/tensor.hpp"

namespace kvferry::ampere {

// Row `row` of `tensor`, which outlives it.
struct WeightRow {
  const TensorView* tensor;
  std::uint64_t row;
};

// Inputs of a matrix: a product's inner size, up to which sums fit 32 bits.
constexpr std::uint64_t kMaxInputs = (1u << 17) - 64;

// Rows are outputs. Each is rotated by blocks as hadamard_block.hpp says, without the factor
// 1 / sqrt(block), and quantised on its own: quant = v * (127 / largest |v|) to the nearest, scale
// = largest |v| * (1 / (127 sqrt(block))); a row whose largest is below 2^-120 is zeros. Rows are
// filled up with zeros to padded() columns.
class Int8Matrix {
 public:
  Int8Matrix() = default;  // no rows

  // The rows in the order given, all of as many columns; `limit`, a power of two up to
  // kFfnRotation, is the largest block of the rotation (1: no rotation). kInvalidArgument when a
  // tensor's bytes and shape disagree, when a row is not there or has other columns than the first,
  // when there are more than kMaxInputs of them, or when a rotated value is infinite or NaN (names
  // the row).
  static Result<Int8Matrix> quantize(Span<const WeightRow> rows, int limit, ThreadPool& pool);

  std::size_t rows() const { return scales_.size(); }
  std::size_t columns() const { return columns_; }
  std::size_t padded() const { return padded_; }
  int block() const { return block_; }                          // of the rotation
  const std::int8_t* quants() const { return quants_.data(); }  // [rows, padded]
  const float* scales() const { return scales_.data(); }        // [rows]

 private:
  std::size_t columns_ = 0;
  std::size_t padded_ = 0;
  int block_ = 1;
  std::vector<std::int8_t> quants_;
  std::vector<float> scales_;
};

// Every row of a matrix, in its order.
std::vector<WeightRow> rows_in_order(const TensorView& matrix);

// Gate's and up's rows by turns: columns 2 i and 2 i + 1 of the product are the two of output i.
// They have as many rows.
std::vector<WeightRow> gate_up_rows(const TensorView& gate, const TensorView& up);

// The outputs of Q, K and V one after the other, of which each head of Q and K has its channels in
// the order of its RoPE pairs, as the product's epilogue takes them: element c is the channel,
// counted over all heads of Q, K and V in the model's order, that column c holds.
std::vector<std::uint32_t> paired_channels(const ModelConfig& config);

// Rows of Q, K and V by such channels. Their rows are as many as the model's heads have channels.
std::vector<WeightRow> rows_of_channels(Span<const std::uint32_t> channels, const TensorView& q,
                                        const TensorView& k, const TensorView& v);

}  // namespace kvferry::ampere
