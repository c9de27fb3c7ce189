// What a Llama-family model needs beside products and attention. Every function gives the same bits
// for a row whatever the other rows and the thread count. Strides are in floats.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "kvferry/cache/geometry.hpp"
#include "kvferry/compute/cpu/isa.hpp"
#include "kvferry/core/span.hpp"
#include "kvferry/core/thread_pool.hpp"
#include "kvferry/model/rope.hpp"

namespace kvferry::cpu {

// out[r][c] = in[r][c] / sqrt(mean over c of in[r][c]^2 + epsilon) * weight[c]. May be in place.
void rms_norm(const Kernels& kernels, ThreadPool& pool, std::size_t rows, std::size_t columns,
              const float* in, std::size_t in_stride, const float* weight, float epsilon,
              float* out, std::size_t out_stride);

// out[r][c] = gate / (1 + exp(-gate)) * up, all [rows, columns] contiguous. May be in place.
void swiglu(const Kernels& kernels, ThreadPool& pool, std::size_t rows, std::size_t columns,
            const float* gate, const float* up, float* out);

// Cosines and sines of a batch of tokens, once for all layers. Angles are computed in F64.
class RopeAngles {
 public:
  void compute(const RopeSpec& spec, Span<const std::uint32_t> positions);

  RopeLayout layout() const { return layout_; }
  std::size_t rows() const { return rows_; }
  std::size_t pairs() const { return pairs_; }
  // Row r: [pairs] cosines, then [pairs] sines, times the attention scale.
  const float* row(std::size_t r) const { return values_.data() + r * 2 * pairs_; }

 private:
  RopeLayout layout_ = RopeLayout::kInterleaved;
  std::size_t rows_ = 0;
  std::size_t pairs_ = 0;
  std::vector<float> values_;
};

// Rotates x, [angles.rows(), heads, head_dim] with rows `stride` apart, in place.
void rope(const Kernels& kernels, ThreadPool& pool, const RopeAngles& angles, std::size_t heads,
          std::size_t head_dim, float* x, std::size_t stride);

// Writes `count` values as `type` to `out`, rounded to nearest even; for F16, magnitudes past 65504
// become 65504, NaN stays.
void store_values(const Kernels& kernels, ElementType type, const float* in, std::size_t count,
                  std::uint8_t* out);

}  // namespace kvferry::cpu
