// AArch64 with the dot-product extension: compiled with -march=armv8.2-a+dotprod and called only
// where the machine has it.
#include "kernels_of.hpp"

#if defined(KVFERRY_CPU_DOTPROD)

#include "vector_neon.hpp"

namespace kvferry::cpu {
namespace {

struct DotProd : NeonBase {
  // acc + 16 rows of 4 signed bytes times the 4 signed bytes at x.
  static KVFERRY_INLINE Ints dot4(Ints acc, const Bytes64& w, const std::uint8_t* x) {
    const int8x16_t four = set_four(x);
    return ints([&](int i) { return vdotq_s32(acc.v[i], w.v[i], four); });
  }
  static KVFERRY_INLINE Ints dot4_wide(Ints acc, const Bytes64& w, const std::uint8_t* x) {
    return dot4(acc, w, x);
  }
};

}  // namespace

const Kernels& dotprod_kernels() {
  static constexpr Kernels kKernels = kernels_of<DotProd>(Isa::kDotProd);
  return kKernels;
}

}  // namespace kvferry::cpu

#endif
