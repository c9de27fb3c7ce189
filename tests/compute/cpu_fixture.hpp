// What the tests of the CPU kernels share: instruction sets, random tensors, comparisons.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <random>
#include <vector>

#include <catch2/catch.hpp>

#include "kvferry/compute/cpu/isa.hpp"
#include "kvferry/core/half.hpp"
#include "kvferry/model/tensor.hpp"

namespace cpu_fixture {

constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();

// Runs `body(kernels)` for every instruction set of this machine.
template <typename Body>
void for_every_isa(Body body) {
  for (const kvferry::cpu::Isa isa : kvferry::cpu::available_isas()) {
    DYNAMIC_SECTION(kvferry::cpu::name_of(isa)) {
      body(*kvferry::cpu::kernels_for(isa).value());
    }
  }
}

inline std::vector<float> random_floats(std::size_t count, std::uint32_t seed, float scale = 1.0f) {
  std::mt19937 engine(seed);
  std::normal_distribution<float> normal(0.0f, scale);
  std::vector<float> values(count);
  for (float& v : values) v = normal(engine);
  return values;
}

// A tensor that owns its bytes.
struct Tensor {
  kvferry::TensorType type;
  std::uint64_t rows;
  std::uint64_t columns;
  std::vector<std::uint8_t> bytes;

  kvferry::TensorView view() const {
    return {type, rows, columns, kvferry::Span<const std::uint8_t>(bytes)};
  }
};

inline void put_half(std::uint8_t* to, float value) {
  const kvferry::Half h = kvferry::to_half(value);
  std::memcpy(to, &h.bits, 2);
}

// Random bytes with scales and minimums of about `scale`, so that values are finite.
inline Tensor random_tensor(kvferry::TensorType type, std::uint64_t rows, std::uint64_t columns,
                            std::uint32_t seed, float scale = 0.01f) {
  using kvferry::TensorType;
  std::mt19937 engine(seed);
  std::uniform_real_distribution<float> parameter(0.2f * scale, scale);
  Tensor t{type, rows, columns, {}};
  const std::size_t block = kvferry::block_bytes(type);
  const std::size_t blocks = rows * columns / kvferry::block_values(type);
  t.bytes.resize(blocks * block);
  for (std::uint8_t& b : t.bytes) b = static_cast<std::uint8_t>(engine());
  for (std::size_t i = 0; i < blocks; ++i) {
    std::uint8_t* p = t.bytes.data() + i * block;
    switch (type) {
      case TensorType::kF32: {
        const float v = (parameter(engine) - 0.6f * scale) * 8;
        std::memcpy(p, &v, 4);
        break;
      }
      case TensorType::kF16:
        put_half(p, (parameter(engine) - 0.6f * scale) * 8);
        break;
      case TensorType::kBF16: {
        const std::uint16_t bits =
            kvferry::to_bfloat16((parameter(engine) - 0.6f * scale) * 8).bits;
        std::memcpy(p, &bits, 2);
        break;
      }
      case TensorType::kQ4_1:
      case TensorType::kQ5_1:
        put_half(p, parameter(engine));
        put_half(p + 2, -8 * parameter(engine));
        break;
      case TensorType::kQ4_K:
      case TensorType::kQ5_K:
        put_half(p, parameter(engine) / 32);
        put_half(p + 2, parameter(engine) / 4);
        break;
      case TensorType::kQ6_K:
        put_half(p + 208, parameter(engine) / 64);
        break;
      default:
        put_half(p, parameter(engine));
    }
  }
  return t;
}

inline bool same_bits(const float* a, const float* b, std::size_t count) {
  return std::memcmp(a, b, count * sizeof(float)) == 0;
}

}  // namespace cpu_fixture
