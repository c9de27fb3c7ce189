#include "kvferry/compute/maxwell/octet_matrix.hpp"

#include <algorithm>
#include <atomic>
#include <cassert>
#include <cmath>
#include <cstring>
#include <limits>
#include <string>

#include "kvferry/compute/dequantise.hpp"
#include "kvferry/compute/device/gemv.hpp"
#include "kvferry/core/half.hpp"

#include "../matrix_shape.hpp"
#include "octet_groups.hpp"

namespace kvferry::maxwell {
namespace {

using octet::Format;
using octet::kGroupColumns;
using octet::kRows;

constexpr float kLargestHalf = 65504.0f;
// What is rounded to F16 is brought below this power of two: scales as high as they may go, weights
// to where products with inputs have as much room below as above.
constexpr int kScaleExponent = 15;
constexpr int kWeightExponent = 6;
// Eight products of a chain stay below F16's largest number when weight and input exponents add up
// to this.
constexpr int kProductExponent = 12;

// values < 2^result; as for 1 when they are all zero.
int exponent_of(float largest) {
  int exponent = 0;
  std::frexp(largest, &exponent);
  return exponent;
}

// A row of one of the matrices.
struct Source {
  const TensorView& tensor;
  std::uint64_t row;

  const std::uint8_t* blocks() const { return tensor.data.data() + row * tensor.row_bytes(); }
};

// The largest magnitude in a row of what becomes F16; NaN or infinite when there is such.
float row_extent(const Source& source, Format format, std::vector<float>& values) {
  float largest = 0.0f;
  const auto take = [&](float value) {
    if (!(std::fabs(value) <= largest)) largest = std::fabs(value);
    return largest <= std::numeric_limits<float>::max();
  };
  if (keeps_groups(source.tensor.type, format)) {
    const std::size_t groups = values.size() / kGroupColumns;
    for (std::size_t g = 0; g < groups; ++g) {
      if (!take(parameter_extent(source.tensor.type, format, source.blocks(), g))) return largest;
    }
  }
  // Groups that cannot keep their numbers are made from values, whatever the type.
  dequantise_row(source.tensor, source.row, values);
  for (const float value : values) {
    if (!take(value)) return largest;
  }
  return largest;
}

// Where the layout has the magnitudes and signs of columns 4 i to 4 i + 3 of W8.
constexpr unsigned kW8Magnitude[] = {0, 16, 8, 24};
constexpr unsigned kW8Sign[] = {15, 31, 23, 7};

void put_w8(std::uint32_t& word, std::size_t column, int q) {
  word |= static_cast<std::uint32_t>(std::abs(q)) << kW8Magnitude[column % 4] |
          static_cast<std::uint32_t>(q < 0) << kW8Sign[column % 4];
}
int get_w8(std::uint32_t word, std::size_t column) {
  const int magnitude = static_cast<int>(word >> kW8Magnitude[column % 4] & 127);
  return (word >> kW8Sign[column % 4] & 1) != 0 ? -magnitude : magnitude;
}
unsigned w4_shift(std::size_t column) {
  return static_cast<unsigned>(column % 8 / 2 * 4 + column % 2 * 16);
}

float half_value(std::uint16_t bits) {
  return to_float(Half{bits});
}

int get_w4(std::uint32_t word, std::size_t column) {
  return static_cast<int>(word >> w4_shift(column) & 15);
}

constexpr std::size_t kMostWords = 16;  // of one row of a group: those of F16
std::size_t parts_of(Format format) {
  return group_bytes(format) / kRows / sizeof(octet::Part);
}

}  // namespace

std::vector<SourceRow> stacked_rows(Span<const TensorView> tensors) {
  std::vector<SourceRow> rows;
  for (std::size_t t = 0; t < tensors.size(); ++t) {
    for (std::uint64_t r = 0; r < tensors[t].rows; ++r) {
      rows.push_back({static_cast<std::uint32_t>(t), static_cast<std::uint32_t>(r)});
    }
  }
  return rows;
}

std::vector<SourceRow> paired_rows(Span<const TensorView> qkv, int head_dim, int pairs,
                                   bool is_split) {
  std::vector<SourceRow> rows = stacked_rows(qkv);
  for (SourceRow& row : rows) {
    if (row.tensor >= 2) break;  // V
    const int of_head = static_cast<int>(row.row % static_cast<std::uint32_t>(head_dim));
    row.row += static_cast<std::uint32_t>(kernels::paired_row(of_head, pairs, is_split) - of_head);
  }
  return rows;
}

std::vector<SourceRow> alternating_rows(Span<const TensorView> tensors) {
  std::vector<SourceRow> rows;
  for (std::uint64_t r = 0; !tensors.empty() && r < tensors[0].rows; ++r) {
    for (std::size_t t = 0; t < tensors.size(); ++t) {
      rows.push_back({static_cast<std::uint32_t>(t), static_cast<std::uint32_t>(r)});
    }
  }
  return rows;
}

namespace {

Error invalid(const std::string& message) {
  return Error(ErrorCode::kInvalidArgument, message);
}

Status check(Format format, Span<const TensorView> tensors, Span<const SourceRow> rows) {
  if (tensors.empty() || rows.empty()) return invalid("weights: no matrix or no rows");
  for (const TensorView& tensor : tensors) {
    KVFERRY_TRY(check_matrix(tensor));
    if (tensor.columns % kGroupColumns != 0) {
      return invalid(describe_matrix(tensor) + ": the FP16 path needs a multiple of " +
                     std::to_string(kGroupColumns) + " columns");
    }
    if (tensor.columns != tensors[0].columns) {
      return invalid(describe_matrix(tensor) + ": is multiplied together with one of " +
                     std::to_string(tensors[0].columns) + " columns");
    }
  }
  for (const SourceRow& row : rows) {
    if (row.tensor >= tensors.size() || row.row >= tensors[row.tensor].rows) {
      return invalid("weights: row " + std::to_string(row.row) + " of matrix " +
                     std::to_string(row.tensor) + " is none of those given");
    }
  }
  // Kernels count 16-byte parts in 32 bits.
  const std::uint64_t octets = (std::uint64_t{rows.size()} + kRows - 1) / kRows;
  const std::uint64_t group_parts = group_bytes(format) / sizeof(octet::Part);
  const std::uint64_t groups = tensors[0].columns / kGroupColumns;
  if (groups > std::numeric_limits<std::int32_t>::max() / group_parts / octets) {
    return invalid("weights: " + std::to_string(rows.size()) + " rows of " +
                   std::to_string(tensors[0].columns) + " columns are more than a product takes");
  }
  return Status();
}

// Of all rows: the largest magnitude of what becomes F16, and the first row with an infinity or
// NaN.
struct Extent {
  float largest;
  std::size_t bad_row;
};
template <typename SourceOf>
Extent extent_of(Format format, std::size_t rows, std::size_t columns, const SourceOf& source_of,
                 ThreadPool& pool) {
  std::vector<Extent> extents(pool.thread_count(), Extent{0.0f, rows});
  pool.parallel_for(rows, 64, [&](std::size_t begin, std::size_t end, std::size_t thread) {
    std::vector<float> values(columns);
    Extent& extent = extents[thread];
    for (std::size_t r = begin; r < end; ++r) {
      const float largest = row_extent(source_of(r), format, values);
      if (!(largest <= std::numeric_limits<float>::max())) {
        extent.bad_row = std::min(extent.bad_row, r);
      } else {
        extent.largest = std::max(extent.largest, largest);
      }
    }
  });
  Extent all = extents[0];
  for (const Extent& extent : extents) {
    all.largest = std::max(all.largest, extent.largest);
    all.bad_row = std::min(all.bad_row, extent.bad_row);
  }
  return all;
}

}  // namespace

Result<OctetMatrix> OctetMatrix::pack(Format format, Span<const TensorView> tensors,
                                      Span<const SourceRow> rows, ThreadPool& pool) {
  KVFERRY_TRY(check(format, tensors, rows));
  OctetMatrix m;
  m.format_ = format;
  m.rows_ = rows.size();
  m.columns_ = static_cast<std::size_t>(tensors[0].columns);

  const auto source_of = [&](std::size_t r) {
    return Source{tensors[rows[r].tensor], rows[r].row};
  };
  const Extent extent = extent_of(format, m.rows_, m.columns_, source_of, pool);
  if (extent.bad_row < m.rows_) {
    const Source source = source_of(extent.bad_row);
    return invalid(describe_matrix(source.tensor) + ": row " + std::to_string(source.row) +
                   " holds an infinity or a NaN");
  }
  const bool is_kept = std::all_of(tensors.begin(), tensors.end(), [&](const TensorView& tensor) {
    return is_exact(tensor.type, format);
  });
  if (extent.largest > 0.0f && !(is_kept && extent.largest <= kLargestHalf)) {
    const int target = format == Format::kF16 ? kWeightExponent : kScaleExponent;
    m.multiplier_ =
        std::ldexp(1.0f, std::min(std::max(exponent_of(extent.largest) - target, -126), 126));
  }
  if (format == Format::kF16) {
    const int weights = exponent_of(extent.largest / m.multiplier_);
    m.input_exponent_ = std::min(kProductExponent - weights, kScaleExponent);
  }

  const std::size_t octet_quants = m.groups() * group_bytes(format);
  const std::size_t octet_scales = m.groups() * scale_bytes(format);
  m.quants_ = cpu::AlignedBuffer(m.octets() * octet_quants);
  m.scales_ = cpu::AlignedBuffer(m.octets() * octet_scales);
  const float inverse = 1.0f / m.multiplier_;
  pool.parallel_for(m.octets(), 4, [&](std::size_t begin, std::size_t end, std::size_t) {
    std::vector<float> values(m.columns_);
    for (std::size_t o = begin; o < end; ++o) {
      std::fill_n(m.quants_.data() + o * octet_quants, octet_quants, std::uint8_t{0});
      std::fill_n(m.scales_.data() + o * octet_scales, octet_scales, std::uint8_t{0});  // or none
      for (std::size_t r = o * kRows; r < std::min(m.rows_, (o + 1) * kRows); ++r) {
        const Source source = source_of(r);
        dequantise_row(source.tensor, source.row, values);
        for (float& value : values) value *= inverse;
        for (std::size_t g = 0; g < m.groups(); ++g) {
          const float* group_values = values.data() + g * kGroupColumns;
          if (format == Format::kF16) {
            m.put_values(r, g, group_values);
            continue;
          }
          QuantisedGroup group{};
          if (!keeps_groups(source.tensor.type, format) ||
              !keep_group(source.tensor.type, format, source.blocks(), g, inverse, group)) {
            quantise_group(format, group_values, group);
          }
          m.put_group(r, g, group);
        }
      }
    }
  });
  return m;
}

octet::Part* OctetMatrix::parts_at(std::size_t row, std::size_t group) {
  const std::size_t index = row / kRows * groups() + group;
  return quants_.as<octet::Part>() + index * parts_of(format_) * kRows + row % kRows;
}

void OctetMatrix::put_words(std::size_t row, std::size_t group, const std::uint32_t* words) {
  octet::Part* parts = parts_at(row, group);
  for (std::size_t p = 0; p < parts_of(format_); ++p) {
    std::memcpy(parts[p * kRows].words, words + 4 * p, sizeof(octet::Part));
  }
}

void OctetMatrix::put_values(std::size_t row, std::size_t group, const float* values) {
  std::uint32_t words[kMostWords];
  for (std::size_t w = 0; w < kMostWords; ++w) {
    words[w] = to_half(values[2 * w]).bits |
               static_cast<std::uint32_t>(to_half(values[2 * w + 1]).bits) << 16;
  }
  put_words(row, group, words);
}

void OctetMatrix::put_group(std::size_t row, std::size_t group, const QuantisedGroup& values) {
  std::uint32_t words[kMostWords] = {};
  if (format_ == Format::kW8) {
    for (std::size_t i = 0; i < kGroupColumns; ++i) put_w8(words[i / 4], i, values.q[i]);
  } else {
    const int zero = format_ == Format::kW4 ? octet::kW4Zero : 0;
    for (std::size_t i = 0; i < kGroupColumns; ++i) {
      words[i / 8] |= static_cast<std::uint32_t>(values.q[i] + zero) << w4_shift(i);
    }
  }
  put_words(row, group, words);
  const std::size_t index = (row / kRows * groups() + group) * kRows + row % kRows;
  if (format_ == Format::kW4Minimum) {
    scales_.as<octet::ScaleAndMinimum>()[index] = {values.scale.bits, values.minimum.bits};
  } else {
    scales_.as<octet::Scale>()[index] = values.scale.bits;
  }
}

void OctetMatrix::unpack_row(std::size_t row, float* out) const {
  assert(row < rows_);
  const std::size_t parts = parts_of(format_);
  const std::size_t columns_of_part = kGroupColumns / parts;
  for (std::size_t c = 0; c < columns_; ++c) {
    const std::size_t group = c / kGroupColumns, i = c % kGroupColumns;
    const std::size_t unit = row / kRows * groups() + group;
    const octet::Part& part =
        quants_.as<octet::Part>()[(unit * parts + i / columns_of_part) * kRows + row % kRows];
    const std::uint32_t word = part.words[i % columns_of_part * 4 / columns_of_part];
    const std::size_t index = unit * kRows + row % kRows;
    const auto scale = [&] { return half_value(scales_.as<octet::Scale>()[index]); };
    float value = 0.0f;
    switch (format_) {
      case Format::kF16:
        value = half_value(static_cast<std::uint16_t>(word >> i % 2 * 16));
        break;
      case Format::kW8:
        value = scale() * static_cast<float>(get_w8(word, i));
        break;
      case Format::kW4:
        value = scale() * static_cast<float>(get_w4(word, i) - octet::kW4Zero);
        break;
      case Format::kW4Minimum: {
        const octet::ScaleAndMinimum both = scales_.as<octet::ScaleAndMinimum>()[index];
        value =
            half_value(both.scale) * static_cast<float>(get_w4(word, i)) + half_value(both.minimum);
        break;
      }
    }
    out[c] = value * multiplier_;
  }
}

}  // namespace kvferry::maxwell
