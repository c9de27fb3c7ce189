#include "kvferry/compute/ampere/int8_matrix.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>

#include "kvferry/compute/dequantise.hpp"
#include "kvferry/compute/device/hadamard_block.hpp"
#include "kvferry/compute/device/rope_pairs.hpp"

namespace kvferry::ampere {
namespace {

constexpr std::size_t kNoRow = std::numeric_limits<std::size_t>::max();
constexpr float kSmallestRow = 7.52316385e-37f;  // 2^-120

std::string shape_of(const TensorView& t) {
  return std::string(name_of(t.type)) + " matrix of " + std::to_string(t.rows) + " x " +
         std::to_string(t.columns);
}

Status check_tensor(const TensorView& t) {
  if (t.columns == 0 || t.columns > kMaxInputs || t.columns % block_values(t.type) != 0) {
    return Error(ErrorCode::kInvalidArgument,
                 shape_of(t) + ": INT8 products take 1 to " + std::to_string(kMaxInputs) +
                     " columns, in whole blocks of " + std::to_string(block_values(t.type)));
  }
  const std::uint64_t row_bytes = t.row_bytes();
  if (t.data.size() % row_bytes != 0 || t.data.size() / row_bytes != t.rows) {
    return Error(ErrorCode::kInvalidArgument,
                 shape_of(t) + ": has " + std::to_string(t.data.size()) + " bytes, a row of it " +
                     std::to_string(row_bytes));
  }
  return Status();
}

void rotate(std::vector<float>& v, std::size_t block) {
  for (std::size_t half = 1; half < block; half *= 2) {
    for (std::size_t i = 0; i < v.size(); ++i) {
      if ((i & half) != 0) continue;
      const float a = v[i], b = v[i + half];
      v[i] = a + b;
      v[i + half] = a - b;
    }
  }
}

}  // namespace

Result<Int8Matrix> Int8Matrix::quantize(Span<const WeightRow> rows, int limit, ThreadPool& pool) {
  Int8Matrix m;
  if (rows.empty()) {
    return Error(ErrorCode::kInvalidArgument, "INT8 matrix: there are no rows to quantise");
  }
  if (limit < 1 || limit > kFfnRotation || (limit & (limit - 1)) != 0) {
    return Error(ErrorCode::kInvalidArgument,
                 "INT8 matrix: blocks of the rotation must be a power of two up to " +
                     std::to_string(kFfnRotation) + ", not " + std::to_string(limit));
  }
  const TensorView* checked = nullptr;
  for (const WeightRow& row : rows) {
    if (row.tensor != checked) {
      KVFERRY_TRY(check_tensor(*row.tensor));
      checked = row.tensor;
    }
    if (row.row >= row.tensor->rows || row.tensor->columns != rows[0].tensor->columns) {
      return Error(ErrorCode::kInvalidArgument,
                   shape_of(*row.tensor) + ": row " + std::to_string(row.row) + " with " +
                       std::to_string(rows[0].tensor->columns) + " columns is needed of it");
    }
  }
  m.columns_ = static_cast<std::size_t>(rows[0].tensor->columns);
  m.padded_ = static_cast<std::size_t>(padded_columns(static_cast<int>(m.columns_)));
  m.block_ = hadamard_block(static_cast<int>(m.columns_), limit);
  m.quants_.resize(rows.size() * m.padded_);
  m.scales_.resize(rows.size());
  const float unit = static_cast<float>(1.0 / (127.0 * std::sqrt(static_cast<double>(m.block_))));

  std::vector<std::size_t> bad_row(pool.thread_count(), kNoRow);
  pool.parallel_for(rows.size(), 16, [&](std::size_t begin, std::size_t end, std::size_t thread) {
    std::vector<float> values(m.columns_);
    for (std::size_t r = begin; r < end; ++r) {
      dequantise_row(*rows[r].tensor, rows[r].row, Span<float>(values));
      rotate(values, static_cast<std::size_t>(m.block_));
      float largest = 0.0f;
      for (const float v : values) {
        if (!(std::fabs(v) <= largest)) largest = std::fabs(v);
        if (!(largest <= std::numeric_limits<float>::max())) break;
      }
      if (!(largest <= std::numeric_limits<float>::max())) {
        bad_row[thread] = std::min(bad_row[thread], r);
        continue;
      }
      if (largest < kSmallestRow) continue;  // zeros, as the vectors are
      const float inverse = 127.0f / largest;
      std::int8_t* quants = m.quants_.data() + r * m.padded_;
      for (std::size_t c = 0; c < m.columns_; ++c) {
        quants[c] = static_cast<std::int8_t>(std::nearbyint(values[c] * inverse));
      }
      m.scales_[r] = largest * unit;
    }
  });
  const std::size_t bad = *std::min_element(bad_row.begin(), bad_row.end());
  if (bad != kNoRow) {
    return Error(ErrorCode::kInvalidArgument,
                 shape_of(*rows[bad].tensor) + ": row " + std::to_string(rows[bad].row) +
                     " holds an infinity or a NaN, or numbers too large to rotate");
  }
  return m;
}

std::vector<WeightRow> rows_in_order(const TensorView& matrix) {
  std::vector<WeightRow> rows;
  rows.reserve(static_cast<std::size_t>(matrix.rows));
  for (std::uint64_t r = 0; r < matrix.rows; ++r) rows.push_back({&matrix, r});
  return rows;
}

std::vector<WeightRow> gate_up_rows(const TensorView& gate, const TensorView& up) {
  std::vector<WeightRow> rows;
  rows.reserve(static_cast<std::size_t>(2 * gate.rows));
  for (std::uint64_t r = 0; r < gate.rows; ++r) {
    rows.push_back({&gate, r});
    rows.push_back({&up, r});
  }
  return rows;
}

std::vector<std::uint32_t> paired_channels(const ModelConfig& config) {
  const std::uint32_t rotated_heads = config.heads + config.kv_heads;
  const auto head_dim = static_cast<int>(config.head_dim);
  const auto rotated = static_cast<int>(config.rope.rotated());
  const bool is_split = config.rope.layout == RopeLayout::kSplitHalves;
  std::vector<std::uint32_t> channels;
  channels.reserve(static_cast<std::size_t>(rotated_heads + config.kv_heads) * config.head_dim);
  for (std::uint32_t head = 0; head < rotated_heads + config.kv_heads; ++head) {
    for (int p = 0; p < head_dim / 2; ++p) {
      const ChannelPair pair = rope_pair(p, rotated, is_split && head < rotated_heads);
      channels.push_back(head * config.head_dim + static_cast<std::uint32_t>(pair.first));
      channels.push_back(head * config.head_dim + static_cast<std::uint32_t>(pair.second));
    }
  }
  return channels;
}

std::vector<WeightRow> rows_of_channels(Span<const std::uint32_t> channels, const TensorView& q,
                                        const TensorView& k, const TensorView& v) {
  std::vector<WeightRow> rows;
  rows.reserve(channels.size());
  for (const std::uint64_t channel : channels) {
    if (channel < q.rows) {
      rows.push_back({&q, channel});
    } else if (channel - q.rows < k.rows) {
      rows.push_back({&k, channel - q.rows});
    } else {
      rows.push_back({&v, channel - q.rows - k.rows});
    }
  }
  return rows;
}

}  // namespace kvferry::ampere
