#include "kvferry/compute/cpu/packed_matrix.hpp"

#include <algorithm>
#include <atomic>
#include <cassert>
#include <cmath>
#include <cstring>
#include <limits>
#include <string>

#include "kvferry/compute/dequantise.hpp"
#include "kvferry/core/half.hpp"

#include "../matrix_shape.hpp"
#include "weight_groups.hpp"

namespace kvferry::cpu {
namespace {

constexpr std::size_t kNoRow = std::numeric_limits<std::size_t>::max();

// The largest magnitude among what will be F16 (scales and minimums, or weights), and the first row
// that holds an infinity or a NaN.
struct Extent {
  float largest = 0.0f;
  std::size_t bad_row = kNoRow;
};

template <typename RowExtent>
Extent extent_of(std::size_t rows, ThreadPool& pool, RowExtent row_extent) {
  std::vector<float> largest(pool.thread_count(), 0.0f);
  std::vector<std::size_t> bad_row(pool.thread_count(), kNoRow);
  pool.parallel_for(rows, 64, [&](std::size_t begin, std::size_t end, std::size_t thread) {
    for (std::size_t r = begin; r < end; ++r) {
      const float m = row_extent(r);
      if (!(m <= std::numeric_limits<float>::max())) {
        bad_row[thread] = std::min(bad_row[thread], r);
      } else {
        largest[thread] = std::max(largest[thread], m);
      }
    }
  });
  return {*std::max_element(largest.begin(), largest.end()),
          *std::min_element(bad_row.begin(), bad_row.end())};
}

// |a| where it is larger than b or not a number.
float larger_or_nan(float a, float b) {
  return !(std::fabs(a) <= b) ? std::fabs(a) : b;
}

// The power of two that brings `largest` below 2^15 and, times 2, not.
float multiplier_for(float largest) {
  if (largest == 0.0f) return 1.0f;
  int exponent = 0;
  std::frexp(largest, &exponent);  // largest = [1/2, 1) * 2^exponent
  return std::ldexp(1.0f, std::max(exponent - 15, -126));
}

// Byte of row `row` (of 16) and input `input` (of 32) in a group of W8.
std::size_t byte_of(std::size_t row, std::size_t input) {
  return input / 4 * 64 + row * 4 + input % 4;
}

void pack_weights(WeightFormat format, const std::uint8_t* q, std::size_t row, std::uint8_t* out) {
  if (format == WeightFormat::kW8) {
    for (std::size_t c = 0; c < 32; c += 4) std::memcpy(out + byte_of(row, c), q + c, 4);
    return;
  }
  for (std::size_t i = 0; i < 16; ++i) {
    out[byte_of(row, i)] = static_cast<std::uint8_t>(q[i] | q[i + 16] << 4);
  }
}

}  // namespace

Result<PackedMatrix> PackedMatrix::pack(const TensorView& tensor, ThreadPool& pool) {
  KVFERRY_TRY(check_matrix(tensor));
  const std::uint64_t row_bytes = tensor.row_bytes();

  PackedMatrix m;
  m.rows_ = static_cast<std::size_t>(tensor.rows);
  m.columns_ = static_cast<std::size_t>(tensor.columns);
  GroupForm form{WeightFormat::kF16, 0, false, false, tensor.type == TensorType::kF16};
  const bool has_groups = group_form(tensor.type, form);
  m.format_ = form.format;
  m.zero_point_ = form.zero_point;
  m.has_minimum_ = form.has_minimum;
  m.has_half_groups_ = form.has_half_groups;

  const auto row_at = [&](std::size_t r) { return tensor.data.data() + r * row_bytes; };
  const auto dequantise_at = [&](std::size_t r, std::vector<float>& out) {
    out.resize(m.columns_);
    dequantise_row(tensor, r, Span<float>(out.data(), out.size()));
  };
  const Extent extent = extent_of(m.rows_, pool, [&](std::size_t r) {
    float largest = 0.0f;
    if (has_groups) {
      for (std::size_t g = 0; g < m.groups(); ++g) {
        WeightGroup group;
        read_parameters(tensor.type, row_at(r), g, group);
        largest = larger_or_nan(group.second, larger_or_nan(group.scale, largest));
        if (!(largest <= std::numeric_limits<float>::max())) break;
      }
    } else {
      std::vector<float> values;
      dequantise_at(r, values);
      for (const float v : values) {
        largest = larger_or_nan(v, largest);
        if (!(largest <= std::numeric_limits<float>::max())) break;
      }
    }
    return largest;
  });
  if (extent.bad_row != kNoRow) {
    return Error(ErrorCode::kInvalidArgument, describe_matrix(tensor) + ": row " +
                                                  std::to_string(extent.bad_row) +
                                                  " holds an infinity or a NaN");
  }
  m.multiplier_ = form.has_f16_parameters ? 1.0f : multiplier_for(extent.largest);
  const float inverse = 1.0f / m.multiplier_;

  const std::size_t group_bytes =
      kPanelRows * kGroupColumns / (m.format_ == WeightFormat::kW4 ? 2 : 1);
  const std::size_t group_scales =
      m.has_minimum_ || m.has_half_groups_ ? 2 * kPanelRows : kPanelRows;
  const std::size_t panel_bytes =
      has_groups ? m.groups() * group_bytes : m.columns_ * kPanelRows * sizeof(std::uint16_t);
  const std::size_t panel_scales = has_groups ? m.groups() * group_scales : 0;
  m.weights_ = AlignedBuffer(m.panels() * panel_bytes);
  m.scales_ = AlignedBuffer(m.panels() * panel_scales * sizeof(std::uint16_t));

  pool.parallel_for(m.panels(), 4, [&](std::size_t begin, std::size_t end, std::size_t) {
    std::vector<float> values;
    for (std::size_t p = begin; p < end; ++p) {
      std::uint8_t* weights = m.weights_.data() + p * panel_bytes;
      std::uint16_t* scales = m.scales_.as<std::uint16_t>() + p * panel_scales;
      std::memset(weights, 0, panel_bytes);
      std::fill(scales, scales + panel_scales, std::uint16_t{0});
      for (std::size_t i = 0; i < kPanelRows && p * kPanelRows + i < m.rows_; ++i) {
        const std::size_t r = p * kPanelRows + i;
        if (has_groups) {
          for (std::size_t g = 0; g < m.groups(); ++g) {
            WeightGroup group;
            read_group(tensor.type, row_at(r), g, group);
            pack_weights(m.format_, group.q, i, weights + g * group_bytes);
            std::uint16_t* out = scales + g * group_scales + i;
            out[0] = to_half(group.scale * inverse).bits;
            if (group_scales > kPanelRows) out[kPanelRows] = to_half(group.second * inverse).bits;
          }
        } else {
          dequantise_at(r, values);
          std::uint16_t* out = reinterpret_cast<std::uint16_t*>(weights) + i;
          for (std::size_t c = 0; c < m.columns_; ++c) {
            out[c * kPanelRows] = to_half(values[c] * inverse).bits;
          }
        }
      }
    }
  });
  return m;
}

void PackedMatrix::unpack_row(std::size_t row, float* out) const {
  assert(row < rows_);
  const std::size_t panel = row / kPanelRows, lane = row % kPanelRows;
  const auto value = [&](std::uint16_t bits) { return to_float(Half{bits}) * multiplier_; };
  if (format_ == WeightFormat::kF16) {
    const std::uint16_t* w = weights_.as<std::uint16_t>() + panel * columns_ * kPanelRows + lane;
    for (std::size_t c = 0; c < columns_; ++c) out[c] = value(w[c * kPanelRows]);
    return;
  }
  const bool is_w4 = format_ == WeightFormat::kW4;
  const std::size_t group_bytes = kPanelRows * kGroupColumns / (is_w4 ? 2 : 1);
  const std::size_t group_scales = has_minimum_ || has_half_groups_ ? 2 * kPanelRows : kPanelRows;
  for (std::size_t g = 0; g < groups(); ++g) {
    const std::uint8_t* w = weights() + (panel * groups() + g) * group_bytes;
    const std::uint16_t* s = scales() + (panel * groups() + g) * group_scales + lane;
    for (std::size_t i = 0; i < kGroupColumns; ++i) {
      const int q = is_w4 ? w[byte_of(lane, i % 16)] >> (i / 16 * 4) & 15 : w[byte_of(lane, i)];
      const float scale = value(has_half_groups_ && i >= 16 ? s[kPanelRows] : s[0]);
      float weight = scale * static_cast<float>(q - zero_point_);
      if (has_minimum_) weight += value(s[kPanelRows]);
      out[g * kGroupColumns + i] = weight;
    }
  }
}

}  // namespace kvferry::cpu
