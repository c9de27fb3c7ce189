// OctetMatrix: weights repacked once at load for the matrix-vector products of path::MaxwellFp16.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "kvferry/compute/cpu/aligned_buffer.hpp"
#include "kvferry/compute/device/octet_layout.hpp"
#include "kvferry/core/result.hpp"
#include "kvferry/core/span.hpp"
#include "kvferry/core/thread_pool.hpp"
#include "kvferry/model/tensor.hpp"

namespace kvferry::maxwell {

// Row `row` of the `tensor`-th of several matrices.
struct SourceRow {
  std::uint32_t tensor;
  std::uint32_t row;
};

// Orders of rows, of matrices whose shapes agree with their bytes, as the reader of files gives
// them.

// All rows of the matrices: one matrix after the other.
std::vector<SourceRow> stacked_rows(Span<const TensorView> tensors);
// Row i of each matrix, then row i + 1 of each. All have as many rows.
std::vector<SourceRow> alternating_rows(Span<const TensorView> tensors);

struct QuantisedGroup;  // of the implementation

// All rows of Q, K and V in the order that kernels::RopeAppend takes: those of Q's and K's heads
// such that rotated pairs lie next to each other (kernels::paired_row), V's as they are.
std::vector<SourceRow> paired_rows(Span<const TensorView> qkv, int head_dim, int pairs,
                                   bool is_split);

// In host memory, as the device will hold it. It may be made of several matrices with as many
// columns, whose products are then one launch.
//
// What becomes of the files' types:
//   kF16        F16 exact; all others rounded
//   kW8         Q8_0, Q5_0 and Q4_0 exact, but for groups of Q8_0 that hold -128; all others
//               quantised anew, in groups of 32 with the largest magnitude at 127
//   kW4         Q4_0 exact; all others quantised anew, the scale of least squared error of several
//   kW4Minimum  Q4_1 and Q4_0 exact; Q4_K keeps its whole numbers, scale and minimum rounded to
//               F16; all others quantised anew between the smallest and the largest of 32
//
// Where all matrices are exact the multiplier is 1 (unless Q4_0's minimum, eight times its scale,
// is out of F16's range). Otherwise it brings what is rounded to F16 into
// range; of exact ones in such company, what is more than 2^28 below the largest may lose bits.
class OctetMatrix {
 public:
  OctetMatrix() = default;  // no rows

  // kInvalidArgument when `rows` is empty or names a row that there is not; when the size and shape
  // of a matrix disagree; when columns differ or are not a multiple of 32; when a scale or value is
  // infinite or NaN (names the row); when there are too many weights for 32-bit offsets. The bytes
  // of the tensors are not needed afterwards.
  static Result<OctetMatrix> pack(octet::Format format, Span<const TensorView> tensors,
                                  Span<const SourceRow> rows, ThreadPool& pool);

  octet::Format format() const { return format_; }
  std::size_t rows() const { return rows_; }  // outputs; the last octet is filled up with zeros
  std::size_t columns() const { return columns_; }
  std::size_t octets() const { return (rows_ + octet::kRows - 1) / octet::kRows; }
  std::size_t groups() const { return columns_ / octet::kGroupColumns; }
  // Every weight is times this power of two.
  float multiplier() const { return multiplier_; }
  // Inputs may be as large as 2^this so that no chain of eight products overflows F16.
  int input_exponent() const { return input_exponent_; }
  Bytes quants() const { return Bytes(quants_.data(), quants_.size()); }
  Bytes scales() const { return Bytes(scales_.data(), scales_.size()); }

  // Writes the weights of one row, [columns], as F32: the values that the products use.
  void unpack_row(std::size_t row, float* out) const;

 private:
  // A row's parts of a group, kRows apart.
  octet::Part* parts_at(std::size_t row, std::size_t group);
  void put_words(std::size_t row, std::size_t group, const std::uint32_t* words);
  void put_values(std::size_t row, std::size_t group, const float* values);
  void put_group(std::size_t row, std::size_t group, const QuantisedGroup& values);

  octet::Format format_ = octet::Format::kF16;
  std::size_t rows_ = 0;
  std::size_t columns_ = 0;
  float multiplier_ = 1.0f;
  int input_exponent_ = 15;
  cpu::AlignedBuffer quants_;  // [octets, groups] of octet::Group
  cpu::AlignedBuffer scales_;  // [octets, groups, 8] of octet::Scale or ScaleAndMinimum
};

}  // namespace kvferry::maxwell
