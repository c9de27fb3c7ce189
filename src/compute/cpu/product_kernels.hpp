// The product and quantisation kernels, written once over a vector type V of 16 lanes. V has
// internal linkage (every instruction set's file defines its own), so that no instantiation is
// shared between files that are compiled for different instruction sets.
//
// Lane = output row. A row's sum is built in the same order in every tile: group after group,
// acc = fma(float(dot), scale * x_scale, acc), then acc = fma(minimum, x_scale * x_sum, acc).
#pragma once

#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "kernel_table.hpp"

namespace kvferry::cpu {

template <typename V>
struct ProductKernels {
  using Floats = typename V::Floats;
  using Ints = typename V::Ints;
  using Bytes64 = typename V::Bytes64;  // 16 rows of 4 weights

  static constexpr std::size_t kHeader = sizeof(ActivationGroup);

  // dot[t] += 4 * chunks weights of each of 16 rows times the whole numbers of row t at `x`.
  template <int kBits, int kRows, std::size_t kUnitBytes>
  static KVFERRY_INLINE void add_dots(const std::uint8_t* weights, int chunks,
                                      const std::uint8_t* x, Ints (&dot)[kRows]) {
    if (kBits == 4) {
      for (int c = 0; c < 4; ++c) {
        Bytes64 low, high;
        V::load_nibbles(weights + 64 * c, low, high);
        for (int t = 0; t < kRows; ++t) {
          dot[t] = V::dot4(dot[t], low, x + t * kUnitBytes + 4 * c);
          dot[t] = V::dot4(dot[t], high, x + t * kUnitBytes + 16 + 4 * c);
        }
      }
    } else {
      for (int c = 0; c < chunks; ++c) {
        const Bytes64 w = V::load_bytes(weights + 64 * c);
        for (int t = 0; t < kRows; ++t) {
          dot[t] = V::dot4_wide(dot[t], w, x + t * kUnitBytes + 4 * c);
        }
      }
    }
  }

  static KVFERRY_INLINE ActivationGroup header(const std::uint8_t* unit) {
    ActivationGroup g;
    __builtin_memcpy(&g, unit, sizeof g);
    return g;
  }

  // kRows rows of a tile times one panel of W4 or W8.
  template <int kBits, bool kMinimum, bool kHalves, int kTerms, int kRows>
  static void multiply_groups(const ProductTask& task, std::size_t panel, const std::uint8_t* unit,
                              std::size_t unit_stride, float* out) {
    constexpr std::size_t kUnitBytes = kHeader + 32 * kTerms;
    constexpr std::size_t kWeightBytes = kPanelRows * kGroupColumns * kBits / 8;
    constexpr std::size_t kScales = kMinimum || kHalves ? 2 * kPanelRows : kPanelRows;
    constexpr int kParts = kHalves ? 2 : 1;
    constexpr int kChunks = 8 / kParts;
    const std::uint8_t* weights = task.weights + panel * task.units * kWeightBytes;
    const std::uint16_t* scales = task.scales + panel * task.units * kScales;
    // What the stored bytes lie above the weights' whole numbers, as the kernels load them.
    const std::int32_t offset = (kBits == 8 ? V::kByteBias : 0) - task.zero_point;

    Floats acc[kRows];
    for (int t = 0; t < kRows; ++t) acc[t] = V::zero();
    for (std::size_t g = 0; g < task.units; ++g) {
      V::prefetch(weights + 8 * kWeightBytes);
      const Floats scale = V::load_half(scales);
      const Floats second = kMinimum || kHalves ? V::load_half(scales + kPanelRows) : V::zero();
      for (int part = 0; part < kParts; ++part) {
        Ints dot[kRows];
        const std::uint8_t* w = weights + part * kChunks * 64;
        const std::uint8_t* x = unit + kHeader + part * 16;
        for (int t = 0; t < kRows; ++t) dot[t] = V::zero_ints();
        add_dots<kBits, kRows, kUnitBytes>(w, kChunks, x, dot);
        if (kTerms == 2) {
          for (int t = 0; t < kRows; ++t) dot[t] = V::shift_left_8(dot[t]);
          add_dots<kBits, kRows, kUnitBytes>(w, kChunks, x + 32, dot);
        }
        for (int t = 0; t < kRows; ++t) {
          const ActivationGroup x_group = header(unit + t * kUnitBytes);
          if (!kMinimum || (kBits == 8 && V::kByteBias != 0)) {
            const std::int32_t sum = !kHalves    ? x_group.sum
                                     : part == 0 ? x_group.half_sum
                                                 : x_group.sum - x_group.half_sum;
            dot[t] = V::add_ints(dot[t], V::set_int(offset * sum));
          }
          const Floats row_scale = kHalves && part == 1 ? second : scale;
          acc[t] = V::fma(V::to_float(dot[t]), V::mul(row_scale, V::set(x_group.scale)), acc[t]);
          if (kMinimum) acc[t] = V::fma(second, V::set(x_group.scaled_sum), acc[t]);
        }
      }
      weights += kWeightBytes;
      scales += kScales;
      unit += unit_stride;
    }
    for (int t = 0; t < kRows; ++t) write(task, panel, acc[t], out + t * task.out_stride);
  }

  // kRows rows of a tile times one panel of F16. Two chains, even and odd columns, hide the latency
  // of the multiply-add when there is one row.
  template <int kRows>
  static void multiply_f16(const ProductTask& task, std::size_t panel, const std::uint8_t* tile,
                           std::size_t tile_rows, float* out) {
    const std::uint8_t* weights = task.weights + panel * task.units * kPanelRows * 2;
    Floats even[kRows], odd[kRows];
    for (int t = 0; t < kRows; ++t) even[t] = odd[t] = V::zero();
    const std::uint16_t* w = reinterpret_cast<const std::uint16_t*>(weights);
    const float* x = reinterpret_cast<const float*>(tile);
    std::size_t k = 0;
    for (; k + 2 <= task.units; k += 2) {
      V::prefetch(w + 64 * kPanelRows);
      const Floats w0 = V::load_half(w);
      const Floats w1 = V::load_half(w + kPanelRows);
      for (int t = 0; t < kRows; ++t) {
        even[t] = V::fma(w0, V::set(x[t]), even[t]);
        odd[t] = V::fma(w1, V::set(x[tile_rows + t]), odd[t]);
      }
      w += 2 * kPanelRows;
      x += 2 * tile_rows;
    }
    if (k < task.units) {
      const Floats w0 = V::load_half(w);
      for (int t = 0; t < kRows; ++t) even[t] = V::fma(w0, V::set(x[t]), even[t]);
    }
    for (int t = 0; t < kRows; ++t) {
      write(task, panel, V::add(even[t], odd[t]), out + t * task.out_stride);
    }
  }

  static KVFERRY_INLINE void write(const ProductTask& task, std::size_t panel, Floats sum,
                                   float* out) {
    const std::size_t first = panel * kPanelRows;
    const std::size_t count = task.outputs - first < kPanelRows ? task.outputs - first : kPanelRows;
    Floats y = V::mul(sum, V::set(task.multiplier));
    if (count == kPanelRows) {
      if (task.bias != nullptr) y = V::add(y, V::load(task.bias + first));
      if (task.accumulate) y = V::add(V::load(out + first), y);
      V::store(out + first, y);
      return;
    }
    float tail[kPanelRows];
    V::store(tail, y);
    for (std::size_t i = 0; i < count; ++i) {
      if (task.bias != nullptr) tail[i] += task.bias[first + i];
      if (task.accumulate) tail[i] = out[first + i] + tail[i];
      out[first + i] = tail[i];
    }
  }

  template <int kBits, bool kMinimum, bool kHalves, int kTerms>
  static void multiply_rows(const ProductTask& task, std::size_t panel, const std::uint8_t* tile,
                            std::size_t tile_rows, std::size_t rows, float* out) {
    constexpr std::size_t kUnitBytes = kHeader + 32 * kTerms;
    const std::size_t stride = tile_rows * kUnitBytes;
    const auto run = [&](auto rows_at_once) {
      constexpr int kRows = decltype(rows_at_once)::value;
      if (kRows > V::kMaxRows) return;
      while (rows >= kRows) {
        multiply_groups<kBits, kMinimum, kHalves, kTerms, (kRows > V::kMaxRows ? 1 : kRows)>(
            task, panel, tile, stride, out);
        tile += kRows * kUnitBytes;
        out += kRows * task.out_stride;
        rows -= kRows;
      }
    };
    run(Count<8>());
    run(Count<4>());
    run(Count<2>());
    run(Count<1>());
  }

  template <int kBits, bool kMinimum, bool kHalves>
  static void multiply_terms(const ProductTask& task, std::size_t panel, const std::uint8_t* tile,
                             std::size_t tile_rows, std::size_t rows, float* out) {
    if (task.activation_format == ActivationFormat::kInt8) {
      multiply_rows<kBits, kMinimum, kHalves, 1>(task, panel, tile, tile_rows, rows, out);
    } else {
      multiply_rows<kBits, kMinimum, kHalves, 2>(task, panel, tile, tile_rows, rows, out);
    }
  }

  static void multiply_panel(const ProductTask& task, std::size_t panel, const std::uint8_t* tile,
                             std::size_t tile_rows, std::size_t rows, float* out) {
    if (task.format == WeightFormat::kW4 && task.has_minimum) {
      multiply_terms<4, true, false>(task, panel, tile, tile_rows, rows, out);
    } else if (task.format == WeightFormat::kW4) {
      multiply_terms<4, false, false>(task, panel, tile, tile_rows, rows, out);
    } else if (task.format == WeightFormat::kW8 && task.has_minimum) {
      multiply_terms<8, true, false>(task, panel, tile, tile_rows, rows, out);
    } else if (task.format == WeightFormat::kW8 && task.has_half_groups) {
      multiply_terms<8, false, true>(task, panel, tile, tile_rows, rows, out);
    } else if (task.format == WeightFormat::kW8) {
      multiply_terms<8, false, false>(task, panel, tile, tile_rows, rows, out);
    } else {
      const auto run = [&](auto rows_at_once) {
        constexpr int kRows = decltype(rows_at_once)::value;
        while (rows >= kRows) {
          multiply_f16<kRows>(task, panel, tile, tile_rows, out);
          tile += kRows * sizeof(float);
          out += kRows * task.out_stride;
          rows -= kRows;
        }
      };
      run(Count<4>());
      run(Count<1>());
    }
  }

  // Whole numbers n with x ~ scale * n. kInt8: |n| <= 127. kInt16: |n| <= 32639 = 127 * 256 + 127,
  // as high = (n + 128) >> 8 and low = n - 256 * high, both within [-128, 127].
  static void quantize_row(const float* in, std::size_t groups, ActivationFormat format,
                           std::uint8_t* unit, std::size_t unit_stride) {
    const bool two_terms = format == ActivationFormat::kInt16;
    const float largest = two_terms ? 32639.0f : 127.0f;
    for (std::size_t g = 0; g < groups; ++g, in += 32, unit += unit_stride) {
      const Floats x0 = V::load(in);
      const Floats x1 = V::load(in + 16);
      // As integers, so that a NaN counts as larger than everything.
      const std::int32_t bits =
          V::reduce_max(V::max_ints(V::magnitude_bits(x0), V::magnitude_bits(x1)));
      float magnitude;
      __builtin_memcpy(&magnitude, &bits, sizeof magnitude);
      ActivationGroup header;
      const bool finite = bits < 0x7f800000;
      const bool is_zero = finite && magnitude < 7.888609052210118e-31f;  // 2^-100
      const float inverse = is_zero || !finite ? 0.0f : largest / magnitude;
      header.scale = !finite ? __builtin_nanf("") : is_zero ? 0.0f : magnitude / largest;
      const Ints n0 = V::round_to_int(V::mul(finite ? x0 : V::zero(), V::set(inverse)));
      const Ints n1 = V::round_to_int(V::mul(finite ? x1 : V::zero(), V::set(inverse)));
      header.half_sum = V::reduce_add(n0);
      header.sum = header.half_sum + V::reduce_add(n1);
      header.scaled_sum = header.scale * static_cast<float>(header.sum);
      __builtin_memcpy(unit, &header, sizeof header);
      std::uint8_t* out = unit + kHeader;
      if (!two_terms) {
        V::store_bytes(out, n0);
        V::store_bytes(out + 16, n1);
      } else {
        store_terms(n0, out);
        store_terms(n1, out + 16);
      }
    }
  }

 private:
  template <int kValue>
  using Count = std::integral_constant<int, kValue>;

  static KVFERRY_INLINE void store_terms(Ints n, std::uint8_t* out) {
    const Ints high = V::shift_right_8(V::add_ints(n, V::set_int(128)));
    V::store_bytes(out, high);
    V::store_bytes(out + 32, V::sub_ints(n, V::shift_left_8(high)));
  }
};

}  // namespace kvferry::cpu
