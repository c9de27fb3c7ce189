// PackedMatrix: a weight matrix repacked once at load for the CPU's matrix products.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kvferry/compute/cpu/aligned_buffer.hpp"
#include "kvferry/core/result.hpp"
#include "kvferry/core/thread_pool.hpp"
#include "kvferry/model/tensor.hpp"

namespace kvferry::cpu {

// How weights are held. W4 and W8 are whole numbers q with parameters for every 32 inputs of a row:
// weight = scale * (q - zero_point) + minimum.
enum class WeightFormat : std::uint8_t { kW4 = 0, kW8 = 1, kF16 = 2 };

constexpr std::size_t kPanelRows = 16;     // outputs that lie interleaved
constexpr std::size_t kGroupColumns = 32;  // inputs that share scales

// Rows are outputs. 16 rows form a panel, in which 16 equal positions of all rows lie together, so
// that a vector lane is an output row and every row's sum has one order, whatever the batch. The
// rows that fill up the last panel are zero.
//
// Exact: Q4_0, Q4_1 (W4), Q8_0, Q5_0, Q5_1 (W8), F16. Q4_K (W4), Q5_K and Q6_K (W8; Q6_K with a
// scale for every 16 inputs) keep their whole numbers, and round scale * sub-scale to 11 bits
// (F16): a relative error of at most 2^-11 of each scale. F32 and BF16 round to F16 likewise. A
// power of two common to the matrix keeps all F16 numbers in range; only scales or values more than
// 2^28 below the largest of the matrix lose further bits, and files that hold such numbers next to
// each other in one of the exact types are the exception to "exact".
class PackedMatrix {
 public:
  PackedMatrix() = default;  // no rows

  // kInvalidArgument when the size of the bytes and the shape disagree, when the columns are not
  // whole blocks, or when a scale or value is infinite or NaN (names the row). The bytes of
  // `tensor` are not needed afterwards.
  static Result<PackedMatrix> pack(const TensorView& tensor, ThreadPool& pool);

  std::size_t rows() const { return rows_; }        // outputs
  std::size_t columns() const { return columns_; }  // inputs
  WeightFormat format() const { return format_; }
  std::size_t bytes() const { return weights_.size() + scales_.size(); }

  // Writes the weights of one row, [columns], as F32: the values that the products use.
  void unpack_row(std::size_t row, float* out) const;

  // What follows is the layout that the kernels read.
  std::size_t panels() const { return (rows_ + kPanelRows - 1) / kPanelRows; }
  std::size_t groups() const { return columns_ / kGroupColumns; }  // of W4 and W8
  // [panels, groups, 16 scales, 16 minimums or scales of the second half] of F16; see has_minimum()
  // and has_half_groups(): with neither only the first 16 are there.
  const std::uint16_t* scales() const { return scales_.as<std::uint16_t>(); }
  // W4: [panels, groups, 4 chunks, 16 rows, 4 bytes]: byte j of chunk c holds input 4c + j in its
  // low and input 16 + 4c + j in its high half. W8: [panels, groups, 8 chunks, 16 rows, 4 inputs].
  // F16: [panels, columns, 16 rows].
  const std::uint8_t* weights() const { return weights_.data(); }
  std::int32_t zero_point() const { return zero_point_; }
  bool has_minimum() const { return has_minimum_; }
  bool has_half_groups() const { return has_half_groups_; }  // a scale for every 16 inputs
  // Every scale, minimum and F16 weight is to be multiplied by this power of two.
  float multiplier() const { return multiplier_; }

 private:
  std::size_t rows_ = 0;
  std::size_t columns_ = 0;
  WeightFormat format_ = WeightFormat::kF16;
  std::int32_t zero_point_ = 0;
  bool has_minimum_ = false;
  bool has_half_groups_ = false;
  float multiplier_ = 1.0f;
  AlignedBuffer weights_;
  AlignedBuffer scales_;
};

}  // namespace kvferry::cpu
