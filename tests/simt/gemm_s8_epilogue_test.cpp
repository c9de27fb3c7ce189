// What gemm_s8 does with its sums: the same bits as the same arithmetic in plain loops, and within
// rounding of double.
#include <string>

#include <catch2/catch.hpp>

#include "kvferry/core/half.hpp"

#include "int8_product.hpp"
#include "rope_rows.hpp"

using namespace kvferry::kernels;
using namespace int8_product;
using kvferry_test::DeviceArray;

namespace {

constexpr double kFloatEpsilon = 1.0 / (1 << 24);  // half a step
constexpr double kHalfEpsilon = 1.0 / (1 << 11);
constexpr double kHalfSmallest = 1.0 / (1 << 25);

constexpr int kTails[][2] = {{1, 8}, {65, 72}, {200, 136}, {130, 258}, {64, 200}};

// silu in F32, operation by operation as kernels/silu.cuh has it.
float plain_silu(float x) {
  const float y = -std::fabs(x);
  float e = 0.0f;
  if (y >= -87.0f) {
    const float n = std::nearbyint(y * 1.44269504f);
    const float r = std::fma(n, 2.12194440e-4f, std::fma(n, -0.693359375f, y));
    const float c[] = {1.98756912e-4f, 1.39819994e-3f, 8.33345205e-3f,
                       4.16657962e-2f, 1.66666657e-1f, 0.5f};
    float p = c[0];
    for (int i = 1; i < 6; ++i) p = std::fma(p, r, c[i]);
    e = std::ldexp(std::fma(p, r * r, r) + 1.0f, static_cast<int>(n));
  }
  return (x < 0.0f ? x * e : x) / (1.0f + e);
}

}  // namespace

TEST_CASE("store: with and without a bias, rows of even and odd length") {
  for (const auto& tail : kTails) {
    for (const int odd : {0, 1}) {
      const Operands o(tail[0], tail[1] - odd, 128, 11);
      const DeviceOperands device(o);
      const std::vector<float> bias = random_floats(static_cast<std::size_t>(o.n), 12, -9.0f, 9.0f);
      const DeviceArray<float> device_bias(bias);
      for (const GemmS8Choice choice : every_choice()) {
        for (const bool has_bias : {false, true}) {
          DeviceArray<float> out(o.sums.size());
          const GemmStore store{out.data(), has_bias ? device_bias.data() : nullptr, o.n};
          REQUIRE(launch_gemm_s8(device.view, store, choice, 0).ok());
          const std::vector<float> got = out.values();
          std::vector<float> expected(o.sums.size());
          std::size_t wrong = 0;
          for (int i = 0; i < o.m; ++i) {
            for (int j = 0; j < o.n; ++j) {
              const float b = has_bias ? bias[j] : 0.0f;
              expected[o.index(i, j)] = std::fma(o.scaled(i, j), o.b_scale[j], b);
              const double exact = o.exact(i, j) + b;
              const double allowed =
                  kFloatEpsilon * (2.1 * std::fabs(o.exact(i, j)) + 1.1 * std::fabs(exact));
              wrong += !(std::fabs(got[o.index(i, j)] - exact) <= allowed);
            }
          }
          CAPTURE(o.m, o.n, static_cast<int>(choice.tile), choice.stages, has_bias);
          CHECK(wrong == 0);
          CHECK(differences(got, expected) == 0);
        }
      }
    }
  }
}

TEST_CASE("residual: the product is added to what is there") {
  for (const auto& tail : kTails) {
    for (const int odd : {0, 1}) {
      const Operands o(tail[0], tail[1] - odd, 64, 21);
      const DeviceOperands device(o);
      const std::vector<float> before = random_floats(o.sums.size(), 22, -50.0f, 50.0f);
      std::vector<float> expected(before);
      for (int i = 0; i < o.m; ++i) {
        for (int j = 0; j < o.n; ++j) {
          float& to = expected[o.index(i, j)];
          to = std::fma(o.scaled(i, j), o.b_scale[j], to);
        }
      }
      for (const GemmS8Choice choice : every_choice()) {
        const DeviceArray<float> hidden(before);
        REQUIRE(launch_gemm_s8(device.view, GemmAddResidual{hidden.data(), o.n}, choice, 0).ok());
        const std::vector<float> got = hidden.values();
        std::size_t wrong = 0;
        for (int i = 0; i < o.m; ++i) {
          for (int j = 0; j < o.n; ++j) {
            const double exact = o.exact(i, j) + before[o.index(i, j)];
            const double allowed =
                kFloatEpsilon * (2.1 * std::fabs(o.exact(i, j)) + 1.1 * std::fabs(exact));
            wrong += !(std::fabs(got[o.index(i, j)] - exact) <= allowed);
          }
        }
        CAPTURE(o.m, o.n, static_cast<int>(choice.tile), choice.stages);
        CHECK(wrong == 0);
        CHECK(differences(got, expected) == 0);
      }
    }
  }
}

TEST_CASE("SwiGLU: pairs of columns to F16") {
  for (const auto& tail : kTails) {
    const Operands o(tail[0], tail[1], 128, 31);
    const DeviceOperands device(o);
    for (const GemmS8Choice choice : every_choice()) {
      DeviceArray<__half> out(o.sums.size() / 2);
      REQUIRE(launch_gemm_s8(device.view, GemmSwiGlu{out.data(), o.n}, choice, 0).ok());
      const std::vector<__half> got = out.values();
      std::size_t wrong = 0, different = 0;
      for (int i = 0; i < o.m; ++i) {
        for (int j = 0; j < o.n; j += 2) {
          const double gate = o.exact(i, j), up = o.exact(i, j + 1);
          const double exact = gate / (1.0 + std::exp(-gate)) * up;
          // 3 roundings on the way to gate and up each, of which the first also moves e^-gate;
          // 8 for the exponential and what follows.
          const double allowed =
              std::fabs(exact) * (kFloatEpsilon * (3 * std::fabs(gate) + 16) + kHalfEpsilon) +
              kHalfSmallest;
          std::uint16_t bits = 0;
          std::memcpy(&bits, &got[o.index(i, j) / 2], sizeof bits);
          wrong += !(std::fabs(kvferry::to_float(kvferry::Half{bits}) - exact) <= allowed);
          const float x = std::fma(o.scaled(i, j), o.b_scale[j], 0.0f);
          const float y = std::fma(o.scaled(i, j + 1), o.b_scale[j + 1], 0.0f);
          different += bits != rope_rows::half_bits(plain_silu(x) * y);
        }
      }
      CAPTURE(o.m, o.n, static_cast<int>(choice.tile), choice.stages);
      CHECK(wrong == 0);
      CHECK(different == 0);
    }
  }
  // The epilogue takes pairs.
  const Operands o(1, 7, 64, 32);
  const DeviceOperands device(o);
  DeviceArray<__half> out(8);
  CHECK(!launch_gemm_s8(device.view, GemmSwiGlu{out.data(), 7}, kGemmS8Default, 0).ok());
}

TEST_CASE("SwiGLU far from zero: no overflow on the way") {
  Operands o(1, 16, 64, 33);
  // gate and up of every size and sign that scales make of a sum of 64 * 128 * 128 or 64 * -128 *
  // 127.
  for (int i = 0; i < 64; ++i) {
    for (int j = 0; j < 16; ++j) o.b[j * 64 + i] = j / 2 % 2 == 0 ? -128 : 127;
  }
  o.a_scale[0] = 1e-6f;
  for (int j = 0; j < 16; ++j) o.b_scale[j] = j % 2 == 0 ? std::ldexp(1.0f, 3 * j) : 1e-2f;
  o.b_scale[13] = 1e30f;  // beyond F16
  o.multiply();
  const DeviceOperands device(o);
  DeviceArray<__half> out(8);
  REQUIRE(launch_gemm_s8(device.view, GemmSwiGlu{out.data(), 16}, kGemmS8Default, 0).ok());
  const std::vector<__half> got = out.values();
  for (int j = 0; j < 16; j += 2) {
    const float x = std::fma(o.scaled(0, j), o.b_scale[j], 0.0f);
    const float y = std::fma(o.scaled(0, j + 1), o.b_scale[j + 1], 0.0f);
    CAPTURE(j, x, y);
    const std::uint16_t expected = rope_rows::half_bits(plain_silu(x) * y);
    CHECK(std::memcmp(&got[static_cast<std::size_t>(j / 2)], &expected, 2) == 0);
    if (x < -100.0f && x > -1e38f) CHECK((expected & 0x7fff) == 0);
  }
}

TEST_CASE("RoPE and the cache: Q, K and V to where the attention finds them") {
  using rope_rows::Shape;
  const Shape shapes[] = {// heads, kv_heads, head_dim, rotated, split
                          {9, 3, 64, 64, false},  {9, 3, 64, 64, true},  {4, 2, 80, 80, true},
                          {3, 1, 96, 48, true},   {3, 1, 96, 96, false}, {2, 2, 128, 128, true},
                          {2, 1, 128, 64, false}, {1, 1, 6, 0, true}};
  std::size_t turn = 0;
  for (const Shape& shape : shapes) {
    for (const int rows : {1, 37, 130}) {
      const bool has_bias = turn % 2 == 0;
      const rope_rows::Rows batch(shape, rows, 77 + static_cast<unsigned>(turn));
      // Columns as the model has them; the product gets them in the order of their pairs.
      const Operands model(rows, shape.columns(), 64, 41);
      const std::vector<float> bias =
          random_floats(static_cast<std::size_t>(model.n), 42, -2.0f, 2.0f);
      Operands paired = model;
      std::vector<float> paired_bias(bias);
      for (int c = 0; c < model.n; ++c) {
        const int from = shape.channel_of_column(c);
        std::copy_n(model.b.begin() + from * 64, 64, paired.b.begin() + c * 64);
        paired.b_scale[c] = model.b_scale[from];
        paired_bias[c] = bias[from];
      }
      const DeviceOperands device(paired);
      const DeviceArray<float> device_bias(paired_bias);
      // Every choice over the shapes; all of them for the first.
      for (const GemmS8Choice choice : every_choice()) {
        const std::size_t index = static_cast<std::size_t>(choice.tile) * 3 + choice.stages;
        if (turn > 2 && index % 3 != turn % 3) continue;
        rope_rows::DeviceRows to(batch);
        const GemmRopeWrite epilogue{to.q.data(), has_bias ? device_bias.data() : nullptr,
                                     to.cache(),  to.rotation(),
                                     shape.heads, shape.kv_heads};
        CAPTURE(shape.heads, shape.head_dim, shape.rotated, shape.is_split, rows,
                static_cast<int>(choice.tile), choice.stages);
        REQUIRE(launch_gemm_s8(device.view, epilogue, choice, 0).ok());
        const auto value = [&](int row, int channel) {
          return std::fma(model.scaled(row, channel), model.b_scale[channel],
                          has_bias ? bias[channel] : 0.0f);
        };
        const auto exact = [&](int row, int channel) {
          return model.exact(row, channel) + (has_bias ? bias[channel] : 0.0f);
        };
        CHECK(to.different(batch, value) == 0);
        // Values below 2 and products below 8 here: 3 roundings of each on the way in.
        CHECK(to.worst(batch, exact) <= kHalfEpsilon + 1e-5);
      }
      ++turn;
    }
  }
}

TEST_CASE("a RoPE epilogue of another shape is refused") {
  const rope_rows::Shape shape{2, 1, 64, 64, true};
  const rope_rows::Rows batch(shape, 3, 5);
  const Operands o(3, shape.columns(), 64, 51);
  const DeviceOperands device(o);
  rope_rows::DeviceRows to(batch);
  const GemmRopeWrite good{to.q.data(), nullptr, to.cache(), to.rotation(), 2, 1};
  CHECK(launch_gemm_s8(device.view, good, kGemmS8Default, 0).ok());
  const auto refused = [&](void (*change)(GemmRopeWrite&)) {
    GemmRopeWrite epilogue = good;
    change(epilogue);
    return !launch_gemm_s8(device.view, epilogue, kGemmS8Default, 0).ok();
  };
  CHECK(refused([](GemmRopeWrite& e) { e.q = nullptr; }));
  CHECK(refused([](GemmRopeWrite& e) { e.heads = 3; }));
  CHECK(refused([](GemmRopeWrite& e) { e.heads = 0; }));
  CHECK(refused([](GemmRopeWrite& e) { e.heads = e.kv_heads = 2147483647; }));
  CHECK(refused([](GemmRopeWrite& e) { e.kv_heads = -1; }));
  CHECK(refused([](GemmRopeWrite& e) { e.cache.head_dim = 0; }));
  CHECK(refused([](GemmRopeWrite& e) { e.cache.head_dim = 63; }));
  CHECK(refused([](GemmRopeWrite& e) { e.cache.blocks = nullptr; }));
  CHECK(refused([](GemmRopeWrite& e) { e.cache.positions = nullptr; }));
  CHECK(refused([](GemmRopeWrite& e) { e.cache.key_offset = 2; }));
  CHECK(refused([](GemmRopeWrite& e) { e.rope.rotated = 66; }));
  CHECK(refused([](GemmRopeWrite& e) { e.rope.rotated = 63; }));
  CHECK(refused([](GemmRopeWrite& e) { e.rope.cos_sin = nullptr; }));
}
