// Element-wise kernels over a vector type V of 16 lanes; see product_kernels.hpp for V.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernel_table.hpp"

namespace kvferry::cpu {

template <typename V>
struct ElementwiseKernels {
  using Floats = typename V::Floats;

  static constexpr std::size_t kLanes = 16;

  // 2^x within 2e-7 of its value; 0 below -126, 2^127 above 127, NaN for NaN.
  static KVFERRY_INLINE Floats exp2(Floats x) {
    const Floats bounded = V::max(V::set(-127.0f), V::min(V::set(127.0f), x));
    const Floats n = V::round(bounded);
    const Floats f = V::sub(bounded, n);
    // Interpolation of (2^f - 1) / f in Chebyshev's points of [-1/2, 1/2].
    Floats p = V::set(1.5453163359779865e-4f);
    p = V::fma(p, f, V::set(1.3390863314270973e-3f));
    p = V::fma(p, f, V::set(9.618083015084267e-3f));
    p = V::fma(p, f, V::set(5.5503569543361664e-2f));
    p = V::fma(p, f, V::set(0.24022650718688965f));
    p = V::fma(p, f, V::set(0.6931471824645996f));
    p = V::fma(p, f, V::set(1.0f));
    return V::zero_below(x, -126.0f, V::mul_power_of_2(p, n));
  }

  static void rms_norm_row(const float* in, std::size_t columns, const float* weight, float epsilon,
                           float* out) {
    Floats squares = V::zero();
    std::size_t i = 0;
    for (; i + kLanes <= columns; i += kLanes) {
      const Floats x = V::load(in + i);
      squares = V::fma(x, x, squares);
    }
    if (i < columns) {
      const Floats x = load_tail(in + i, columns - i);
      squares = V::fma(x, x, squares);
    }
    const float mean = V::reduce_add(squares) / static_cast<float>(columns);
    const float factor = 1.0f / __builtin_sqrtf(mean + epsilon);
    for (i = 0; i + kLanes <= columns; i += kLanes) {
      V::store(out + i, V::mul(V::mul(V::load(in + i), V::set(factor)), V::load(weight + i)));
    }
    for (; i < columns; ++i) out[i] = in[i] * factor * weight[i];
  }

  static void swiglu(const float* gate, const float* up, std::size_t count, float* out) {
    std::size_t i = 0;
    for (; i + kLanes <= count; i += kLanes) {
      V::store(out + i, swiglu(V::load(gate + i), V::load(up + i)));
    }
    if (i == count) return;
    float tail[kLanes];
    V::store(tail, swiglu(load_tail(gate + i, count - i), load_tail(up + i, count - i)));
    for (std::size_t j = 0; i < count; ++i, ++j) out[i] = tail[j];
  }

  static void rope_row(RopeLayout layout, const float* cosines, const float* sines,
                       std::size_t pairs, std::size_t heads, std::size_t head_dim, float* x) {
    for (std::size_t h = 0; h < heads; ++h, x += head_dim) {
      if (layout == RopeLayout::kInterleaved) {
        for (std::size_t i = 0; i < pairs; ++i) {
          const float a = x[2 * i], b = x[2 * i + 1];
          x[2 * i] = a * cosines[i] - b * sines[i];
          x[2 * i + 1] = a * sines[i] + b * cosines[i];
        }
      } else {
        for (std::size_t i = 0; i < pairs; ++i) {
          const float a = x[i], b = x[pairs + i];
          x[i] = a * cosines[i] - b * sines[i];
          x[pairs + i] = a * sines[i] + b * cosines[i];
        }
      }
    }
  }

  static void store_values(ElementType type, const float* in, std::size_t count,
                           std::uint8_t* out) {
    std::size_t i = 0;
    const std::size_t bytes = type == ElementType::kF32 ? 4 : 2;
    for (; i + kLanes <= count; i += kLanes) store_16(type, V::load(in + i), out + i * bytes);
    if (i == count) return;
    std::uint8_t tail[kLanes * 4];
    store_16(type, load_tail(in + i, count - i), tail);
    __builtin_memcpy(out + i * bytes, tail, (count - i) * bytes);
  }

 private:
  static KVFERRY_INLINE Floats load_tail(const float* in, std::size_t count) {
    float tail[kLanes] = {};
    for (std::size_t i = 0; i < count; ++i) tail[i] = in[i];
    return V::load(tail);
  }

  static KVFERRY_INLINE Floats swiglu(Floats gate, Floats up) {
    constexpr float kMinusLog2E = -1.44269504088896341f;
    const Floats e = exp2(V::mul(gate, V::set(kMinusLog2E)));
    return V::mul(V::div(gate, V::add(V::set(1.0f), e)), up);
  }

  static KVFERRY_INLINE void store_16(ElementType type, Floats x, std::uint8_t* out) {
    if (type == ElementType::kF32) {
      V::store(reinterpret_cast<float*>(out), x);
    } else if (type == ElementType::kF16) {
      V::store_half(reinterpret_cast<std::uint16_t*>(out),
                    V::max(V::set(-65504.0f), V::min(V::set(65504.0f), x)));
    } else {
      V::store_bfloat16(reinterpret_cast<std::uint16_t*>(out), x);
    }
  }
};

}  // namespace kvferry::cpu
