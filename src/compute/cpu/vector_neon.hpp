// The vector type of AArch64's Advanced SIMD, without the dot product that each of the two files
// which include it adds. Internal to each of them.
#pragma once

#include <cstddef>
#include <cstdint>

#include <arm_neon.h>

#include "kernel_table.hpp"

namespace kvferry::cpu {
namespace {

struct NeonBase {
  struct Floats {
    float32x4_t v[4];
  };
  struct Ints {
    int32x4_t v[4];
  };
  struct Bytes64 {  // signed: what is stored less kByteBias
    int8x16_t v[4];
  };

  static constexpr int kByteBias = 128;
  static constexpr int kMaxRows = 4;
  static constexpr int kMaxSums = 4;

  template <typename Function>
  static KVFERRY_INLINE Floats floats(Function f) {
    return {{f(0), f(1), f(2), f(3)}};
  }
  template <typename Function>
  static KVFERRY_INLINE Ints ints(Function f) {
    return {{f(0), f(1), f(2), f(3)}};
  }

  static KVFERRY_INLINE Floats zero() { return set(0.0f); }
  static KVFERRY_INLINE Floats set(float x) {
    const float32x4_t v = vdupq_n_f32(x);
    return {{v, v, v, v}};
  }
  static KVFERRY_INLINE Floats load(const float* p) {
    return floats([&](int i) { return vld1q_f32(p + 4 * i); });
  }
  static KVFERRY_INLINE void store(float* p, const Floats& x) {
    for (int i = 0; i < 4; ++i) vst1q_f32(p + 4 * i, x.v[i]);
  }
  static KVFERRY_INLINE Floats add(const Floats& a, const Floats& b) {
    return floats([&](int i) { return vaddq_f32(a.v[i], b.v[i]); });
  }
  static KVFERRY_INLINE Floats sub(const Floats& a, const Floats& b) {
    return floats([&](int i) { return vsubq_f32(a.v[i], b.v[i]); });
  }
  static KVFERRY_INLINE Floats mul(const Floats& a, const Floats& b) {
    return floats([&](int i) { return vmulq_f32(a.v[i], b.v[i]); });
  }
  static KVFERRY_INLINE Floats div(const Floats& a, const Floats& b) {
    return floats([&](int i) { return vdivq_f32(a.v[i], b.v[i]); });
  }
  static KVFERRY_INLINE Floats fma(const Floats& a, const Floats& b, const Floats& c) {
    return floats([&](int i) { return vfmaq_f32(c.v[i], a.v[i], b.v[i]); });
  }
  static KVFERRY_INLINE Floats min(const Floats& a, const Floats& b) {
    return floats([&](int i) { return vminq_f32(a.v[i], b.v[i]); });
  }
  static KVFERRY_INLINE Floats max(const Floats& a, const Floats& b) {
    return floats([&](int i) { return vmaxq_f32(a.v[i], b.v[i]); });
  }
  static KVFERRY_INLINE Floats round(const Floats& x) {
    return floats([&](int i) { return vrndnq_f32(x.v[i]); });
  }
  static KVFERRY_INLINE Floats mul_power_of_2(const Floats& x, const Floats& n) {
    return floats([&](int i) {
      const int32x4_t biased = vaddq_s32(vcvtq_s32_f32(n.v[i]), vdupq_n_s32(127));
      return vmulq_f32(x.v[i], vreinterpretq_f32_s32(vshlq_n_s32(biased, 23)));
    });
  }
  static KVFERRY_INLINE Floats zero_below(const Floats& x, float limit, const Floats& y) {
    return floats([&](int i) {
      const uint32x4_t below = vcltq_f32(x.v[i], vdupq_n_f32(limit));
      return vreinterpretq_f32_u32(vbicq_u32(vreinterpretq_u32_f32(y.v[i]), below));
    });
  }
  static KVFERRY_INLINE float reduce_add(const Floats& x) {
    const float32x4_t a = vaddq_f32(vaddq_f32(x.v[0], x.v[2]), vaddq_f32(x.v[1], x.v[3]));
    const float32x2_t b = vadd_f32(vget_low_f32(a), vget_high_f32(a));
    return vget_lane_f32(b, 0) + vget_lane_f32(b, 1);
  }
  static KVFERRY_INLINE float reduce_max(const Floats& x) {
    return vmaxvq_f32(vmaxq_f32(vmaxq_f32(x.v[0], x.v[1]), vmaxq_f32(x.v[2], x.v[3])));
  }

  static KVFERRY_INLINE float32x4_t from_half(uint16x4_t x) {
    return vcvt_f32_f16(vreinterpret_f16_u16(x));
  }
  static KVFERRY_INLINE float32x4_t from_bfloat16(uint16x4_t x) {
    return vreinterpretq_f32_u32(vshll_n_u16(x, 16));
  }
  static KVFERRY_INLINE Floats load_half(const std::uint16_t* p) {
    return floats([&](int i) { return from_half(vld1_u16(p + 4 * i)); });
  }
  static KVFERRY_INLINE Floats load_bfloat16(const std::uint16_t* p) {
    return floats([&](int i) { return from_bfloat16(vld1_u16(p + 4 * i)); });
  }
  static KVFERRY_INLINE void store_half(std::uint16_t* p, const Floats& x) {
    for (int i = 0; i < 4; ++i) vst1_u16(p + 4 * i, vreinterpret_u16_f16(vcvt_f16_f32(x.v[i])));
  }
  static KVFERRY_INLINE void store_bfloat16(std::uint16_t* p, const Floats& x) {
    for (int i = 0; i < 4; ++i) {
      const uint32x4_t u = vreinterpretq_u32_f32(x.v[i]);
      const uint32x4_t top = vshrq_n_u32(u, 16);
      const uint32x4_t odd = vandq_u32(top, vdupq_n_u32(1));
      const uint32x4_t y = vshrq_n_u32(vaddq_u32(u, vaddq_u32(odd, vdupq_n_u32(0x7fff))), 16);
      const uint32x4_t quiet = vorrq_u32(top, vdupq_n_u32(0x40));
      const uint32x4_t is_number = vceqq_f32(x.v[i], x.v[i]);
      vst1_u16(p + 4 * i, vmovn_u32(vbslq_u32(is_number, y, quiet)));
    }
  }
  static KVFERRY_INLINE float half_to_float(std::uint16_t h) {
    return vgetq_lane_f32(from_half(vdup_n_u16(h)), 0);
  }
  static KVFERRY_INLINE float bfloat16_to_float(std::uint16_t h) {
    return vgetq_lane_f32(from_bfloat16(vdup_n_u16(h)), 0);
  }

  static KVFERRY_INLINE Ints zero_ints() { return set_int(0); }
  static KVFERRY_INLINE Ints set_int(std::int32_t x) {
    const int32x4_t v = vdupq_n_s32(x);
    return {{v, v, v, v}};
  }
  static KVFERRY_INLINE Ints add_ints(const Ints& a, const Ints& b) {
    return ints([&](int i) { return vaddq_s32(a.v[i], b.v[i]); });
  }
  static KVFERRY_INLINE Ints sub_ints(const Ints& a, const Ints& b) {
    return ints([&](int i) { return vsubq_s32(a.v[i], b.v[i]); });
  }
  static KVFERRY_INLINE Ints max_ints(const Ints& a, const Ints& b) {
    return ints([&](int i) { return vmaxq_s32(a.v[i], b.v[i]); });
  }
  static KVFERRY_INLINE Ints shift_left_8(const Ints& a) {
    return ints([&](int i) { return vshlq_n_s32(a.v[i], 8); });
  }
  static KVFERRY_INLINE Ints shift_right_8(const Ints& a) {
    return ints([&](int i) { return vshrq_n_s32(a.v[i], 8); });
  }
  static KVFERRY_INLINE Floats to_float(const Ints& a) {
    return floats([&](int i) { return vcvtq_f32_s32(a.v[i]); });
  }
  static KVFERRY_INLINE Ints round_to_int(const Floats& a) {
    return ints([&](int i) { return vcvtnq_s32_f32(a.v[i]); });
  }
  static KVFERRY_INLINE Ints magnitude_bits(const Floats& a) {
    return ints(
        [&](int i) { return vandq_s32(vreinterpretq_s32_f32(a.v[i]), vdupq_n_s32(0x7fffffff)); });
  }
  static KVFERRY_INLINE std::int32_t reduce_add(const Ints& x) {
    return vaddvq_s32(vaddq_s32(vaddq_s32(x.v[0], x.v[1]), vaddq_s32(x.v[2], x.v[3])));
  }
  static KVFERRY_INLINE std::int32_t reduce_max(const Ints& x) {
    return vmaxvq_s32(vmaxq_s32(vmaxq_s32(x.v[0], x.v[1]), vmaxq_s32(x.v[2], x.v[3])));
  }
  static KVFERRY_INLINE void store_bytes(std::uint8_t* p, const Ints& a) {
    const int16x8_t low = vcombine_s16(vmovn_s32(a.v[0]), vmovn_s32(a.v[1]));
    const int16x8_t high = vcombine_s16(vmovn_s32(a.v[2]), vmovn_s32(a.v[3]));
    vst1q_u8(p, vreinterpretq_u8_s8(vcombine_s8(vmovn_s16(low), vmovn_s16(high))));
  }

  static KVFERRY_INLINE void prefetch(const void* p) { __builtin_prefetch(p); }
  static KVFERRY_INLINE Bytes64 load_bytes(const std::uint8_t* p) {
    Bytes64 w;
    for (int i = 0; i < 4; ++i) {
      w.v[i] = vreinterpretq_s8_u8(veorq_u8(vld1q_u8(p + 16 * i), vdupq_n_u8(0x80)));
    }
    return w;
  }
  static KVFERRY_INLINE void load_nibbles(const std::uint8_t* p, Bytes64& low, Bytes64& high) {
    for (int i = 0; i < 4; ++i) {
      const uint8x16_t both = vld1q_u8(p + 16 * i);
      low.v[i] = vreinterpretq_s8_u8(vandq_u8(both, vdupq_n_u8(15)));
      high.v[i] = vreinterpretq_s8_u8(vshrq_n_u8(both, 4));
    }
  }
  static KVFERRY_INLINE int8x16_t set_four(const std::uint8_t* x) {
    std::int32_t four;
    __builtin_memcpy(&four, x, sizeof four);
    return vreinterpretq_s8_s32(vdupq_n_s32(four));
  }

  // [32 keys, stride] of F16 or BF16, 8 dimensions of it -> [8 dimensions, 16 + 16 keys] F32.
  template <bool kF16>
  static KVFERRY_INLINE void transpose_halves(const std::uint16_t* in, std::size_t stride,
                                              Floats (&keys0)[8], Floats (&keys16)[8]) {
    for (int first = 0; first < 32; first += 8, in += 8 * stride) {
      uint16x8_t a[8], b[8];
      for (std::size_t i = 0; i < 8; ++i) a[i] = vld1q_u16(in + i * stride);
      for (int i = 0; i < 8; i += 2) {
        b[i] = vzip1q_u16(a[i], a[i + 1]);
        b[i + 1] = vzip2q_u16(a[i], a[i + 1]);
      }
      for (int i = 0; i < 8; i += 4) {
        a[i] = zip1_32(b[i], b[i + 2]);
        a[i + 1] = zip2_32(b[i], b[i + 2]);
        a[i + 2] = zip1_32(b[i + 1], b[i + 3]);
        a[i + 3] = zip2_32(b[i + 1], b[i + 3]);
      }
      for (int i = 0; i < 4; ++i) {
        b[2 * i] = vcombine_u16(vget_low_u16(a[i]), vget_low_u16(a[i + 4]));
        b[2 * i + 1] = vcombine_u16(vget_high_u16(a[i]), vget_high_u16(a[i + 4]));
      }
      for (std::size_t i = 0; i < 8; ++i) {
        const uint16x4_t low = vget_low_u16(b[i]);
        const uint16x4_t high = vget_high_u16(b[i]);
        Floats& keys = first < 16 ? keys0[i] : keys16[i];
        keys.v[first % 16 / 4] = kF16 ? from_half(low) : from_bfloat16(low);
        keys.v[first % 16 / 4 + 1] = kF16 ? from_half(high) : from_bfloat16(high);
      }
    }
  }
  static KVFERRY_INLINE uint16x8_t zip1_32(uint16x8_t a, uint16x8_t b) {
    return vreinterpretq_u16_u32(vzip1q_u32(vreinterpretq_u32_u16(a), vreinterpretq_u32_u16(b)));
  }
  static KVFERRY_INLINE uint16x8_t zip2_32(uint16x8_t a, uint16x8_t b) {
    return vreinterpretq_u16_u32(vzip2q_u32(vreinterpretq_u32_u16(a), vreinterpretq_u32_u16(b)));
  }
};

}  // namespace
}  // namespace kvferry::cpu
