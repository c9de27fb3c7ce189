// row_kernels.hpp with NEON, which every 64-bit Arm has.
#include "row_kernels.hpp"

#if defined(__aarch64__) && !defined(__AARCH64EB__)
#include <cstring>

#include <arm_neon.h>

#include "vector_row_loops.hpp"

namespace kvferry {
namespace {

struct Neon {
  using Floats = float32x4_t;
  using Ints = uint32x4_t;
  using Shorts = int16x8_t;
  static constexpr std::size_t kFloats = 4;
  static constexpr std::size_t kShorts = 8;
  static constexpr std::size_t kProductRows = 6;

  static Floats load(const float* p) { return vld1q_f32(p); }
  static void store(Floats v, float* p) { vst1q_f32(p, v); }
  static Floats set(float x) { return vdupq_n_f32(x); }
  static Floats add(Floats a, Floats b) { return vaddq_f32(a, b); }
  static Floats sub(Floats a, Floats b) { return vsubq_f32(a, b); }
  static Floats mul(Floats a, Floats b) { return vmulq_f32(a, b); }
  static Floats exclusive_or(Floats a, Floats b) {
    return vreinterpretq_f32_u32(veorq_u32(vreinterpretq_u32_f32(a), vreinterpretq_u32_f32(b)));
  }
  // What is no number becomes `most`; the instructions for minimum and maximum keep it.
  static Floats clamp(Floats v, float most) {
    const Floats below = vbslq_f32(vcltq_f32(v, set(most)), v, set(most));
    return vbslq_f32(vcgtq_f32(below, set(-most)), below, set(-most));
  }
  static Floats load_half(const std::uint8_t* p) {
    return vcvt_f32_f16(vreinterpret_f16_u8(vld1_u8(p)));
  }
  static void store_half(Floats v, std::uint8_t* p) {
    vst1_u8(p, vreinterpret_u8_f16(vcvt_f16_f32(v)));
  }
  static Floats load_shorts_as_floats(const std::int16_t* p) {
    return vcvtq_f32_s32(vmovl_s16(vld1_s16(p)));
  }

  static Floats order_of_pairs(Floats v) { return v; }
  static void load_pairs(const float* p, Floats& a, Floats& b) {
    const float32x4x2_t pairs = vld2q_f32(p);
    a = pairs.val[0];
    b = pairs.val[1];
  }
  static void store_pairs(Floats a, Floats b, float* p) {
    const float32x4x2_t pairs = {{a, b}};
    vst2q_f32(p, pairs);
  }

  static Ints zero_ints() { return vdupq_n_u32(0); }
  static Ints set_ints(std::int32_t x) { return vdupq_n_u32(static_cast<std::uint32_t>(x)); }
  static Ints load(const std::uint32_t* p) { return vld1q_u32(p); }
  static Ints mul(Ints a, Ints b) { return vmulq_u32(a, b); }
  static std::uint32_t sum(Ints v) { return vaddvq_u32(v); }
  static Ints add(Ints a, Ints b) { return vaddq_u32(a, b); }
  static Ints larger(Ints a, Ints b) { return vmaxq_u32(a, b); }
  static Ints magnitude(Floats v) { return vreinterpretq_u32_f32(vabsq_f32(v)); }
  static bool any_above(Ints v, std::uint32_t limit) { return vmaxvq_u32(v) > limit; }
  static void store_rounded(Floats low, Floats high, std::int16_t* p) {
    store(vcombine_s16(vqmovn_s32(vcvtnq_s32_f32(low)), vqmovn_s32(vcvtnq_s32_f32(high))), p);
  }

  static Shorts load(const std::int16_t* p) { return vld1q_s16(p); }
  static void store(Shorts v, std::int16_t* p) { vst1q_s16(p, v); }
  static Shorts load_bytes_as_shorts(const std::int8_t* p) { return vmovl_s8(vld1_s8(p)); }
  static Shorts zero_shorts() { return vdupq_n_s16(0); }
  static Shorts set(std::int16_t x) { return vdupq_n_s16(x); }
  static Shorts add(Shorts a, Shorts b) { return vaddq_s16(a, b); }
  static Shorts sub(Shorts a, Shorts b) { return vsubq_s16(a, b); }
  static Shorts add_saturated(Shorts a, Shorts b) { return vqaddq_s16(a, b); }
  static Shorts bitwise_and(Shorts a, Shorts b) { return vandq_s16(a, b); }
  static Shorts shift_left(Shorts v, std::uint32_t n) {
    return vshlq_s16(v, vdupq_n_s16(static_cast<std::int16_t>(n)));
  }
  static Shorts shift_right(Shorts v, std::uint32_t n) {
    return vshlq_s16(v, vdupq_n_s16(static_cast<std::int16_t>(-static_cast<std::int32_t>(n))));
  }
  static Shorts magnitude(Shorts v) { return vabsq_s16(v); }
  static Shorts larger(Shorts a, Shorts b) {
    return vreinterpretq_s16_u16(vmaxq_u16(vreinterpretq_u16_s16(a), vreinterpretq_u16_s16(b)));
  }
  static bool any_above(Shorts v, std::uint16_t limit) { return largest(v) > limit; }
  static Shorts add_where_equal(Shorts counts, Shorts v, std::int16_t x) {
    return vsubq_s16(counts, vreinterpretq_s16_u16(vceqq_s16(v, vdupq_n_s16(x))));
  }
  static std::uint32_t sum(Shorts v) { return vaddlvq_u16(vreinterpretq_u16_s16(v)); }
  static std::uint32_t largest(Shorts v) { return vmaxvq_u16(vreinterpretq_u16_s16(v)); }

  static void store_low_bytes(Shorts a, Shorts b, std::uint8_t* p) {
    const uint8x16_t low = vreinterpretq_u8_s16(a);
    vst1q_u8(p, vuzp1q_u8(low, vreinterpretq_u8_s16(b)));
  }
  static void store_low_bytes(Ints a, Ints b, std::uint8_t* p) {
    vst1_u8(p, vmovn_u16(vcombine_u16(vmovn_u32(a), vmovn_u32(b))));
  }
  static Ints pair_sums(Shorts v) { return vpaddlq_u16(vreinterpretq_u16_s16(v)); }
  // Of values that a pair of symbols holds: the products fit.
  static Ints pair_products(Shorts v, std::int32_t width) {
    const int32x4_t weights = vdupq_n_s32(width | 1 << 16);
    return vreinterpretq_u32_s32(vpaddlq_s16(vmulq_s16(v, vreinterpretq_s16_s32(weights))));
  }
  static void store_signs(Shorts v, std::uint8_t* p) {
    const uint16x8_t negative = vshrq_n_u16(vreinterpretq_u16_s16(v), 15);
    *p = static_cast<std::uint8_t>(vaddvq_u16(vshlq_u16(negative, vld1q_s16(kPlaces))));
  }
  static Shorts lanes_of_bits(const std::uint8_t* p) {
    const uint16x8_t places = vshlq_u16(vdupq_n_u16(1), vld1q_s16(kPlaces));
    return vreinterpretq_s16_u16(vtstq_u16(vdupq_n_u16(*p), places));
  }

 private:
  static constexpr std::int16_t kPlaces[8] = {0, 1, 2, 3, 4, 5, 6, 7};
};

}  // namespace

const RowKernels* neon_row_kernels() {
  static constexpr RowKernels kKernels = VectorRowLoops<Neon>::kernels("neon");
  return &kKernels;
}

}  // namespace kvferry
#else
namespace kvferry {
const RowKernels* neon_row_kernels() {
  return nullptr;
}
}  // namespace kvferry
#endif
