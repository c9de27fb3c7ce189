// Norms, rotations, activations and stores, on every instruction set.
#include "kvferry/compute/cpu/elementwise.hpp"

#include "cpu_fixture.hpp"

using namespace kvferry;
using namespace cpu_fixture;

TEST_CASE("rms_norm") {
  ThreadPool pool(2);
  for_every_isa([&](const cpu::Kernels& kernels) {
    for (const std::size_t columns : {1, 2, 15, 16, 17, 576, 1001}) {
      const std::size_t rows = 20, stride = columns + 5;
      const std::vector<float> x = random_floats(rows * stride, 1, 3.0f);
      const std::vector<float> weight = random_floats(columns, 2);
      std::vector<float> out(rows * stride, kNaN);
      cpu::rms_norm(kernels, pool, rows, columns, x.data(), stride, weight.data(), 1e-5f,
                    out.data(), stride);
      for (std::size_t r = 0; r < rows; ++r) {
        double squares = 0;
        for (std::size_t c = 0; c < columns; ++c) {
          squares += std::pow(static_cast<double>(x[r * stride + c]), 2);
        }
        const double factor = 1 / std::sqrt(squares / static_cast<double>(columns) + 1e-5f);
        for (std::size_t c = 0; c < columns; ++c) {
          const double expected =
              static_cast<double>(x[r * stride + c]) * factor * static_cast<double>(weight[c]);
          const double got = static_cast<double>(out[r * stride + c]);
          if (!(std::fabs(got - expected) <= 1e-6 * std::fabs(expected) + 1e-30)) FAIL(got);
        }
        for (std::size_t c = columns; c < stride; ++c) REQUIRE(std::isnan(out[r * stride + c]));
      }
      std::vector<float> in_place = x;
      cpu::rms_norm(kernels, pool, rows, columns, in_place.data(), stride, weight.data(), 1e-5f,
                    in_place.data(), stride);
      for (std::size_t r = 0; r < rows; ++r) {
        CHECK(same_bits(&in_place[r * stride], &out[r * stride], columns));
      }
    }
  });
}

TEST_CASE("swiglu, from the smallest to the largest gate") {
  ThreadPool pool(2);
  for_every_isa([&](const cpu::Kernels& kernels) {
    std::vector<float> gate = random_floats(1000, 3, 10.0f);
    for (const float g :
         {0.0f, -0.0f, 80.0f, -80.0f, 87.5f, -87.5f, 200.0f, -200.0f, 1e30f, -1e30f}) {
      gate.push_back(g);
    }
    const std::vector<float> up = random_floats(gate.size(), 4);
    std::vector<float> out(gate.size(), kNaN);
    cpu::swiglu(kernels, pool, 1, gate.size(), gate.data(), up.data(), out.data());
    for (std::size_t i = 0; i < gate.size(); ++i) {
      const double g = static_cast<double>(gate[i]), u = static_cast<double>(up[i]);
      const double expected = g / (1 + std::exp(-g)) * u;
      const double got = static_cast<double>(out[i]);
      // e^-g of a gate beyond -87 is off, where the result is below 1e-35.
      CAPTURE(g);
      if (g > -1e30) CHECK(std::fabs(got - expected) <= 2e-6 * std::fabs(expected) + 1e-34);
      // In rows, and at another offset in the vector.
      float alone = kNaN;
      cpu::swiglu(kernels, pool, 1, 1, &gate[i], &up[i], &alone);
      CHECK(same_bits(&alone, &out[i], 1));
    }
    const float one = 1.0f;
    float y = 0.0f;
    cpu::swiglu(kernels, pool, 1, 1, &kNaN, &one, &y);
    CHECK(std::isnan(y));
  });
}

TEST_CASE("rope rotates pairs by position times frequency") {
  ThreadPool pool(2);
  for_every_isa([&](const cpu::Kernels& kernels) {
    for (const RopeLayout layout : {RopeLayout::kInterleaved, RopeLayout::kSplitHalves}) {
      for (const std::size_t pairs : {1, 3, 16, 32, 48}) {
        const std::size_t heads = 3, head_dim = 2 * pairs + 4, stride = heads * head_dim + 7;
        RopeSpec spec;
        spec.layout = layout;
        spec.attention_scale = 1.1f;
        for (std::size_t i = 0; i < pairs; ++i) {
          spec.inverse_frequency.push_back(
              std::pow(1e4f, -static_cast<float>(i) / static_cast<float>(pairs)));
        }
        const std::uint32_t positions[] = {0, 1, 7, 100, 5000, 131071, 999999};
        cpu::RopeAngles angles;
        angles.compute(spec, positions);
        const std::vector<float> before = random_floats(7 * stride, 5);
        std::vector<float> x = before;
        cpu::rope(kernels, pool, angles, heads, head_dim, x.data(), stride);
        std::vector<float> expected = before;
        for (std::size_t r = 0; r < 7; ++r) {
          for (std::size_t h = 0; h < heads; ++h) {
            for (std::size_t i = 0; i < pairs; ++i) {
              const bool split = layout == RopeLayout::kSplitHalves;
              const std::size_t base = r * stride + h * head_dim;
              const std::size_t at = base + (split ? i : 2 * i);
              const std::size_t bt = base + (split ? i + pairs : 2 * i + 1);
              const double angle = positions[r] * static_cast<double>(spec.inverse_frequency[i]);
              const double a = before[at], b = before[bt];
              expected[at] = static_cast<float>(1.1f * (a * std::cos(angle) - b * std::sin(angle)));
              expected[bt] = static_cast<float>(1.1f * (a * std::sin(angle) + b * std::cos(angle)));
            }
          }
        }
        float worst = 0;
        for (std::size_t i = 0; i < x.size(); ++i) {
          const float error = std::fabs(x[i] - expected[i]);
          if (!(error <= worst)) worst = error;
        }
        CHECK(worst <= 1e-6f);
      }
    }
  });
}

TEST_CASE("stored values are rounded to nearest even") {
  std::vector<float> values = random_floats(333, 6, 100.0f);
  for (const float v : {0.0f, -0.0f, 65503.0f, 65519.0f, 65504.0f, 1e-8f, 5.96e-8f, -6.1e-5f,
                        1.00048828125f, 1.00146484375f, 1e38f, 1.00390625f, 1.01171875f}) {
    values.push_back(v);
  }
  for_every_isa([&](const cpu::Kernels& kernels) {
    for (const std::size_t count :
         {std::size_t{1}, std::size_t{16}, std::size_t{31}, values.size()}) {
      const float* in = values.data() + values.size() - count;
      std::vector<std::uint8_t> out(4 * count + 4, 0xab);
      cpu::store_values(kernels, ElementType::kF32, in, count, out.data());
      CHECK(std::memcmp(out.data(), in, 4 * count) == 0);
      out.assign(out.size(), 0xab);
      for (const ElementType type : {ElementType::kF16, ElementType::kBF16}) {
        cpu::store_values(kernels, type, in, count, out.data());
        for (std::size_t i = 0; i < count; ++i) {
          std::uint16_t got;
          std::memcpy(&got, &out[2 * i], 2);
          const bool half = type == ElementType::kF16;
          const std::uint16_t expected =
              half ? to_half(std::min(in[i], 65504.0f)).bits : to_bfloat16(in[i]).bits;
          CAPTURE(in[i], name_of(type));
          CHECK(got == expected);
        }
        CHECK(out[2 * count] == 0xab);
      }
    }
    const float special[] = {kNaN, INFINITY, -INFINITY};
    std::uint16_t out[3];
    cpu::store_values(kernels, ElementType::kF16, special, 3, reinterpret_cast<std::uint8_t*>(out));
    CHECK(std::isnan(to_float(Half{out[0]})));
    CHECK(to_float(Half{out[1]}) == 65504.0f);
    CHECK(to_float(Half{out[2]}) == -65504.0f);
    cpu::store_values(kernels, ElementType::kBF16, special, 3,
                      reinterpret_cast<std::uint8_t*>(out));
    CHECK(std::isnan(to_float(BFloat16{out[0]})));
    CHECK(to_float(BFloat16{out[1]}) == INFINITY);
    CHECK(to_float(BFloat16{out[2]}) == -INFINITY);
  });
}
