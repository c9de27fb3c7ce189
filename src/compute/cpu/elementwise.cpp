#include "kvferry/compute/cpu/elementwise.hpp"

#include <algorithm>
#include <cassert>
#include <cmath>

#include "kernel_table.hpp"

namespace kvferry::cpu {
namespace {

// Rows of a range: enough work to be worth waking a thread for.
std::size_t rows_per_range(std::size_t columns) {
  constexpr std::size_t kValues = 8192;
  return std::max<std::size_t>(1, kValues / std::max<std::size_t>(1, columns));
}

}  // namespace

void rms_norm(const Kernels& kernels, ThreadPool& pool, std::size_t rows, std::size_t columns,
              const float* in, std::size_t in_stride, const float* weight, float epsilon,
              float* out, std::size_t out_stride) {
  pool.parallel_for(
      rows, rows_per_range(columns), [&](std::size_t begin, std::size_t end, std::size_t) {
        for (std::size_t r = begin; r < end; ++r) {
          kernels.rms_norm_row(in + r * in_stride, columns, weight, epsilon, out + r * out_stride);
        }
      });
}

void swiglu(const Kernels& kernels, ThreadPool& pool, std::size_t rows, std::size_t columns,
            const float* gate, const float* up, float* out) {
  pool.parallel_for(
      rows, rows_per_range(columns), [&](std::size_t begin, std::size_t end, std::size_t) {
        for (std::size_t r = begin; r < end; ++r) {
          kernels.swiglu(gate + r * columns, up + r * columns, columns, out + r * columns);
        }
      });
}

void RopeAngles::compute(const RopeSpec& spec, Span<const std::uint32_t> positions) {
  layout_ = spec.layout;
  rows_ = positions.size();
  pairs_ = spec.inverse_frequency.size();
  values_.resize(rows_ * 2 * pairs_);
  for (std::size_t r = 0; r < rows_; ++r) {
    float* cosines = values_.data() + r * 2 * pairs_;
    float* sines = cosines + pairs_;
    for (std::size_t i = 0; i < pairs_; ++i) {
      const double angle = static_cast<double>(positions[r]) * spec.inverse_frequency[i];
      cosines[i] = static_cast<float>(std::cos(angle) * spec.attention_scale);
      sines[i] = static_cast<float>(std::sin(angle) * spec.attention_scale);
    }
  }
}

void rope(const Kernels& kernels, ThreadPool& pool, const RopeAngles& angles, std::size_t heads,
          std::size_t head_dim, float* x, std::size_t stride) {
  assert(2 * angles.pairs() <= head_dim);
  pool.parallel_for(angles.rows(), rows_per_range(heads * head_dim),
                    [&](std::size_t begin, std::size_t end, std::size_t) {
                      for (std::size_t r = begin; r < end; ++r) {
                        kernels.rope_row(angles.layout(), angles.row(r),
                                         angles.row(r) + angles.pairs(), angles.pairs(), heads,
                                         head_dim, x + r * stride);
                      }
                    });
}

void store_values(const Kernels& kernels, ElementType type, const float* in, std::size_t count,
                  std::uint8_t* out) {
  kernels.store_values(type, in, count, out);
}

}  // namespace kvferry::cpu
