#include "kvferry/compute/cpu/product.hpp"

#include <algorithm>
#include <cassert>
#include <cstring>

#include "kernel_table.hpp"

namespace kvferry::cpu {
namespace {

// Tiles of activations that one range of work covers: a prefill's work divides by rows too, so that
// matrices with few outputs keep many threads busy.
constexpr std::size_t kTilesPerBlock = 16;

ProductTask task_of(const Product& p) {
  const PackedMatrix& m = *p.matrix;
  assert(p.input->columns() == m.columns());
  assert((p.input->format() == ActivationFormat::kF32) == (m.format() == WeightFormat::kF16));
  ProductTask task;
  task.weights = m.weights();
  task.scales = m.scales();
  task.outputs = m.rows();
  task.units = p.input->units();
  task.format = m.format();
  task.has_minimum = m.has_minimum();
  task.has_half_groups = m.has_half_groups();
  task.zero_point = m.zero_point();
  task.multiplier = m.multiplier();
  task.activation_format = p.input->format();
  task.out_stride = p.out_stride;
  task.bias = p.bias;
  task.accumulate = p.accumulate;
  return task;
}

std::size_t tiles_of(const Activations& a) {
  return (a.rows() + a.tile_rows() - 1) / a.tile_rows();
}

std::size_t blocks_of(const Activations& a) {
  return (tiles_of(a) + kTilesPerBlock - 1) / kTilesPerBlock;
}

}  // namespace

void Activations::resize(std::size_t rows, std::size_t columns, ActivationFormat format) {
  assert(rows > 0 && columns > 0);
  assert(format == ActivationFormat::kF32 || columns % kGroupColumns == 0);
  rows_ = rows;
  columns_ = columns;
  format_ = format;
  tile_rows_ = std::min(rows, kTileRows);
  if (format == ActivationFormat::kF32) {
    unit_bytes_ = sizeof(float);
    units_ = columns;
  } else {
    unit_bytes_ =
        sizeof(ActivationGroup) + kGroupColumns * (format == ActivationFormat::kInt16 ? 2 : 1);
    units_ = columns / kGroupColumns;
  }
  data_.grow(tiles_of(*this) * tile_bytes());
}

void quantize(const Kernels& kernels, ThreadPool& pool, const float* in, std::size_t in_stride,
              Activations& out) {
  const std::size_t unit_stride = out.tile_rows() * out.unit_bytes();
  pool.parallel_for(out.rows(), 16, [&](std::size_t begin, std::size_t end, std::size_t) {
    for (std::size_t r = begin; r < end; ++r) {
      const float* row = in + r * in_stride;
      std::uint8_t* unit = out.tile(r / out.tile_rows()) + r % out.tile_rows() * out.unit_bytes();
      if (out.format() == ActivationFormat::kF32) {
        for (std::size_t c = 0; c < out.columns(); ++c) {
          std::memcpy(unit + c * unit_stride, row + c, sizeof(float));
        }
      } else {
        kernels.quantize_row(row, out.units(), out.format(), unit, unit_stride);
      }
    }
  });
}

void multiply(const Kernels& kernels, ThreadPool& pool, Span<const Product> products) {
  // One index counts (product, panel, block of tiles), the last fastest: a panel stays in the cache
  // while it meets all rows.
  std::size_t count = 0;
  for (const Product& p : products) count += p.matrix->panels() * blocks_of(*p.input);
  const std::size_t grain = std::max<std::size_t>(1, count / (pool.thread_count() * 8));
  pool.parallel_for(count, grain, [&](std::size_t begin, std::size_t end, std::size_t) {
    for (const Product& p : products) {
      const std::size_t blocks = blocks_of(*p.input);
      const std::size_t items = p.matrix->panels() * blocks;
      if (begin < items) {
        const ProductTask task = task_of(p);
        const std::size_t tiles = tiles_of(*p.input), tile_rows = p.input->tile_rows();
        for (std::size_t i = begin; i < std::min(end, items); ++i) {
          const std::size_t first = i % blocks * kTilesPerBlock;
          for (std::size_t t = first; t < std::min(first + kTilesPerBlock, tiles); ++t) {
            const std::size_t rows = std::min(tile_rows, p.input->rows() - t * tile_rows);
            kernels.multiply_panel(task, i / blocks, p.input->tile(t), tile_rows, rows,
                                   p.out + t * tile_rows * p.out_stride);
          }
        }
      }
      if (end <= items) return;
      begin -= std::min(begin, items);
      end -= items;
    }
  });
}

}  // namespace kvferry::cpu
