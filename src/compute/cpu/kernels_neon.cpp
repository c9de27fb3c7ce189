// AArch64 without extensions.
#include "kernels_of.hpp"

#if defined(KVFERRY_CPU_NEON)

#include "vector_neon.hpp"

namespace kvferry::cpu {
namespace {

struct Neon : NeonBase {
  // acc + 16 rows of 4 signed bytes times the 4 signed bytes at x.
  static KVFERRY_INLINE Ints dot4(Ints acc, const Bytes64& w, const std::uint8_t* x) {
    const int8x16_t four = set_four(x);
    return ints([&](int i) {
      const int16x8_t low = vmull_s8(vget_low_s8(w.v[i]), vget_low_s8(four));
      const int16x8_t high = vmull_s8(vget_high_s8(w.v[i]), vget_high_s8(four));
      return vaddq_s32(acc.v[i], vpaddq_s32(vpaddlq_s16(low), vpaddlq_s16(high)));
    });
  }
  static KVFERRY_INLINE Ints dot4_wide(Ints acc, const Bytes64& w, const std::uint8_t* x) {
    return dot4(acc, w, x);
  }
};

}  // namespace

const Kernels& neon_kernels() {
  static constexpr Kernels kKernels = kernels_of<Neon>(Isa::kNeon);
  return kKernels;
}

}  // namespace kvferry::cpu

#endif
