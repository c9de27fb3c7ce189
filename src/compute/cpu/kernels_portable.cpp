// Plain C++, for any machine.
#include <cmath>
#include <cstring>

#include "kvferry/core/half.hpp"

#include "kernels_of.hpp"

namespace kvferry::cpu {
namespace {

struct Portable {
  struct Floats {
    float v[16];
  };
  struct Ints {
    std::int32_t v[16];
  };
  struct Bytes64 {
    std::uint8_t v[64];
  };

  static constexpr int kByteBias = 0;
  static constexpr int kMaxRows = 1;  // more spill: 4 at once take 1.8 times as long
  static constexpr int kMaxSums = 4;

  template <typename Function>
  static KVFERRY_INLINE Floats floats(Function f) {
    Floats y;
    for (int i = 0; i < 16; ++i) y.v[i] = f(i);
    return y;
  }
  template <typename Function>
  static KVFERRY_INLINE Ints ints(Function f) {
    Ints y;
    for (int i = 0; i < 16; ++i) y.v[i] = f(i);
    return y;
  }

  static Floats zero() { return set(0.0f); }
  static Floats set(float x) {
    return floats([&](int) { return x; });
  }
  static Floats load(const float* p) {
    return floats([&](int i) { return p[i]; });
  }
  static void store(float* p, const Floats& x) { std::memcpy(p, x.v, sizeof x.v); }
  static Floats add(const Floats& a, const Floats& b) {
    return floats([&](int i) { return a.v[i] + b.v[i]; });
  }
  static Floats sub(const Floats& a, const Floats& b) {
    return floats([&](int i) { return a.v[i] - b.v[i]; });
  }
  static Floats mul(const Floats& a, const Floats& b) {
    return floats([&](int i) { return a.v[i] * b.v[i]; });
  }
  static Floats div(const Floats& a, const Floats& b) {
    return floats([&](int i) { return a.v[i] / b.v[i]; });
  }
  // Rounded twice: not every machine has a fused multiply-add.
  static Floats fma(const Floats& a, const Floats& b, const Floats& c) {
    return floats([&](int i) { return a.v[i] * b.v[i] + c.v[i]; });
  }
  static Floats min(const Floats& a, const Floats& b) {
    return floats([&](int i) { return a.v[i] < b.v[i] ? a.v[i] : b.v[i]; });
  }
  static Floats max(const Floats& a, const Floats& b) {
    return floats([&](int i) { return a.v[i] > b.v[i] ? a.v[i] : b.v[i]; });
  }
  // Adding 1.5 * 2^23 rounds to a whole number, for magnitudes below 2^22.
  static constexpr float kRound = 12582912.0f;
  static Floats round(const Floats& x) {
    return floats([&](int i) { return x.v[i] + kRound - kRound; });
  }
  static Floats mul_power_of_2(const Floats& x, const Floats& n) {
    return floats([&](int i) {
      // A NaN has no whole number; x is NaN then.
      const std::int32_t whole = n.v[i] == n.v[i] ? static_cast<std::int32_t>(n.v[i]) : 0;
      return x.v[i] * float_from_bits(static_cast<std::uint32_t>(whole + 127) << 23);
    });
  }
  static Floats zero_below(const Floats& x, float limit, const Floats& y) {
    return floats([&](int i) { return x.v[i] < limit ? 0.0f : y.v[i]; });
  }
  static float reduce_add(const Floats& x) {
    Floats s = x;
    for (int half = 8; half > 0; half /= 2) {
      for (int i = 0; i < half; ++i) s.v[i] += s.v[i + half];
    }
    return s.v[0];
  }
  static float reduce_max(const Floats& x) {
    float m = x.v[0];
    for (int i = 1; i < 16; ++i) m = x.v[i] > m ? x.v[i] : m;
    return m;
  }

  static Floats load_half(const std::uint16_t* p) {
    return floats([&](int i) { return kvferry::to_float(Half{p[i]}); });
  }
  static Floats load_bfloat16(const std::uint16_t* p) {
    return floats([&](int i) { return kvferry::to_float(BFloat16{p[i]}); });
  }
  static void store_half(std::uint16_t* p, const Floats& x) {
    for (int i = 0; i < 16; ++i) p[i] = to_half(x.v[i]).bits;
  }
  static void store_bfloat16(std::uint16_t* p, const Floats& x) {
    for (int i = 0; i < 16; ++i) p[i] = to_bfloat16(x.v[i]).bits;
  }
  static float half_to_float(std::uint16_t h) { return kvferry::to_float(Half{h}); }
  static float bfloat16_to_float(std::uint16_t h) { return kvferry::to_float(BFloat16{h}); }

  static Ints zero_ints() { return set_int(0); }
  static Ints set_int(std::int32_t x) {
    return ints([&](int) { return x; });
  }
  static Ints add_ints(const Ints& a, const Ints& b) {
    return ints([&](int i) { return a.v[i] + b.v[i]; });
  }
  static Ints sub_ints(const Ints& a, const Ints& b) {
    return ints([&](int i) { return a.v[i] - b.v[i]; });
  }
  static Ints max_ints(const Ints& a, const Ints& b) {
    return ints([&](int i) { return a.v[i] > b.v[i] ? a.v[i] : b.v[i]; });
  }
  static Ints shift_left_8(const Ints& a) {
    return ints([&](int i) { return a.v[i] * 256; });
  }
  static Ints shift_right_8(const Ints& a) {
    return ints([&](int i) { return a.v[i] >> 8; });
  }
  static Floats to_float(const Ints& a) {
    return floats([&](int i) { return static_cast<float>(a.v[i]); });
  }
  static Ints round_to_int(const Floats& a) {
    return ints([&](int i) {
      return static_cast<std::int32_t>(float_bits(a.v[i] + kRound) - float_bits(kRound));
    });
  }
  static Ints magnitude_bits(const Floats& a) {
    return ints([&](int i) { return static_cast<std::int32_t>(float_bits(a.v[i]) & 0x7fffffffu); });
  }
  static std::int32_t reduce_add(const Ints& a) {
    std::int32_t s = 0;
    for (int i = 0; i < 16; ++i) s += a.v[i];
    return s;
  }
  static std::int32_t reduce_max(const Ints& a) {
    std::int32_t m = a.v[0];
    for (int i = 1; i < 16; ++i) m = a.v[i] > m ? a.v[i] : m;
    return m;
  }
  static void store_bytes(std::uint8_t* p, const Ints& a) {
    for (int i = 0; i < 16; ++i) p[i] = static_cast<std::uint8_t>(a.v[i]);
  }

  static void prefetch(const void*) {}
  static Bytes64 load_bytes(const std::uint8_t* p) {
    Bytes64 w;
    std::memcpy(w.v, p, sizeof w.v);
    return w;
  }
  static void load_nibbles(const std::uint8_t* p, Bytes64& low, Bytes64& high) {
    for (int i = 0; i < 64; ++i) {
      low.v[i] = p[i] & 15;
      high.v[i] = static_cast<std::uint8_t>(p[i] >> 4);
    }
  }
  static Ints dot4(const Ints& acc, const Bytes64& w, const std::uint8_t* x) {
    std::int8_t four[4];
    std::memcpy(four, x, sizeof four);
    return ints([&](int i) {
      return acc.v[i] + w.v[4 * i] * four[0] + w.v[4 * i + 1] * four[1] + w.v[4 * i + 2] * four[2] +
             w.v[4 * i + 3] * four[3];
    });
  }
  static Ints dot4_wide(const Ints& acc, const Bytes64& w, const std::uint8_t* x) {
    return dot4(acc, w, x);
  }

  template <bool kF16>
  static void transpose_halves(const std::uint16_t* in, std::size_t stride, Floats (&keys0)[8],
                               Floats (&keys16)[8]) {
    for (std::size_t d = 0; d < 8; ++d) {
      for (std::size_t k = 0; k < 16; ++k) {
        const std::uint16_t x = in[k * stride + d], y = in[(k + 16) * stride + d];
        keys0[d].v[k] = kF16 ? half_to_float(x) : bfloat16_to_float(x);
        keys16[d].v[k] = kF16 ? half_to_float(y) : bfloat16_to_float(y);
      }
    }
  }
};

}  // namespace

const Kernels& portable_kernels() {
  static constexpr Kernels kKernels = kernels_of<Portable>(Isa::kPortable);
  return kKernels;
}

}  // namespace kvferry::cpu
