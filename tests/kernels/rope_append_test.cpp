// Q, K and V of one step under emulation: bias, rotation, and what is written into the caches.
#include <cmath>
#include <cstring>

#include <catch2/catch.hpp>

#include "src/compute/maxwell/gemv.hpp"
#include "tests/kernels/device_array.hpp"
#include "tests/kernels/gemv_fixture.hpp"
#include "tests/kernels/gemv_model.hpp"
#include "tests/kernels/half_arithmetic.hpp"

using namespace kvferry;
using namespace gemv_fixture;
using device_test::DeviceArray;

namespace {

constexpr int kColumns = 96;
constexpr int kLayerTiles = 7;  // tiles of other layers lie before this one's
constexpr int kPositions[] = {33, 0, 64, 31};
constexpr int kMostPositions = 65;
constexpr int kBlocks = 3;  // of each sequence

struct Case {
  int head_dim, heads, kv_heads, pairs;
  bool is_split, has_bias;
};
const Case kCases[] = {{64, 3, 1, 32, false, false},
                       {64, 2, 2, 32, true, true},
                       {128, 2, 1, 64, true, true},
                       {128, 1, 1, 24, true, false},
                       {64, 1, 1, 0, false, true}};

// The row of a head's matrix that holds value `element`.
int row_of(const Case& c, int element) {
  if (!c.is_split || element >= 2 * c.pairs) return element;
  return element < c.pairs ? 2 * element : 2 * (element - c.pairs) + 1;
}
// The other value of a rotated pair, and the pair's number; -1 where there is none.
int partner_of(const Case& c, int element) {
  if (element >= 2 * c.pairs) return -1;
  if (!c.is_split) return element % 2 == 0 ? element + 1 : element - 1;
  return element < c.pairs ? element + c.pairs : element - c.pairs;
}

// The head's values after bias and rotation.
std::vector<float> rotated(const Case& c, const std::vector<float>& y,
                           const std::vector<float>& bias, const std::vector<float>& angles,
                           int head, int position) {
  const int first = head * c.head_dim;
  std::vector<float> values, result;
  for (int e = 0; e < c.head_dim; ++e) {
    const float value = y[static_cast<std::size_t>(first + row_of(c, e))];
    values.push_back(c.has_bias ? value + bias[static_cast<std::size_t>(first + e)] : value);
  }
  for (int e = 0; e < c.head_dim; ++e) {
    const int partner = partner_of(c, e);
    if (partner < 0) {
      result.push_back(values[static_cast<std::size_t>(e)]);
      continue;
    }
    const int pair = c.is_split ? std::min(e, partner) : e / 2;
    const float* angle = &angles[static_cast<std::size_t>(2 * (position * c.pairs + pair))];
    const float a = values[static_cast<std::size_t>(e)];
    const float b = values[static_cast<std::size_t>(partner)];
    result.push_back(e < partner ? a * angle[0] - b * angle[1] : a * angle[0] + b * angle[1]);
  }
  return result;
}

// V's rows are in the order of its values.
std::vector<float> plain(const Case& c, const std::vector<float>& y, const std::vector<float>& bias,
                         int head) {
  const Case unpaired = {c.head_dim, c.heads, c.kv_heads, 0, false, c.has_bias};
  return rotated(unpaired, y, bias, {}, head, 0);
}

std::uint16_t half_bits(float value) {
  if (std::isnan(value)) return 0x7fff;
  const double half =
      half_arithmetic::to_half(std::min(std::max(static_cast<double>(value), -65504.0), 65504.0));
  for (std::uint32_t bits = 0; bits < 0x10000; ++bits) {
    const double other = half_arithmetic::from_bits(static_cast<std::uint16_t>(bits));
    if (other == half && std::signbit(other) == std::signbit(half)) {
      return static_cast<std::uint16_t>(bits);
    }
  }
  FAIL("no F16 number");
  return 0;
}

}  // namespace

TEST_CASE("Q, K and V are rotated and K and V appended to the caches") {
  for (const octet::Format format : kFormats) {
    for (const Case& c : kCases) {
      for (int batch = 1; batch <= 4; ++batch) {
        CAPTURE(static_cast<int>(format), c.head_dim, c.heads, c.pairs, c.is_split, batch);
        const std::size_t rows = static_cast<std::size_t>((c.heads + 2 * c.kv_heads) * c.head_dim);
        const auto matrix = random_matrix(format, rows, kColumns, 31);
        const DeviceMatrix device(matrix);
        const Rows x(batch, kColumns, kColumns, 32);
        const std::vector<float> weight = cpu_fixture::random_floats(kColumns, 33);
        std::vector<float> bias = cpu_fixture::random_floats(rows, 34);
        bias[rows - 1] = 1e6f;  // of V: cut off
        bias[rows - 2] = -1e6f;
        bias[rows - 3] = kNaN;
        std::vector<float> angles;
        for (int i = 0; i < kMostPositions * c.pairs; ++i) {
          angles.push_back(static_cast<float>(std::cos(0.01 * i)));
          angles.push_back(static_cast<float>(std::sin(0.01 * i)));
        }
        // A cache of this layer and of others, all NaN.
        const std::size_t tile = 32 * static_cast<std::size_t>(c.head_dim);
        const std::size_t tiles = kLayerTiles + 2 * static_cast<std::size_t>(c.kv_heads) + 1;
        const DeviceArray<std::uint16_t> cache(batch * kBlocks * tiles * tile);
        std::vector<std::uint8_t*> table;
        for (int i = 0; i < batch * kBlocks; ++i) {
          // Sequences' blocks lie by turns.
          const int block = i % kBlocks * batch + i / kBlocks;
          table.push_back(reinterpret_cast<std::uint8_t*>(cache.data() + block * tiles * tile));
        }
        const std::vector<std::int32_t> positions(kPositions, kPositions + batch);
        const std::size_t stride = static_cast<std::size_t>(c.heads * c.head_dim) + 3;
        const DeviceArray<float> x_device(x.values), weight_device(weight), bias_device(bias);
        const DeviceArray<float> angles_device(angles.empty() ? std::vector<float>(1) : angles);
        const DeviceArray<std::uint8_t*> table_device(table);
        const DeviceArray<std::int32_t> positions_device(positions);
        const DeviceArray<float> q(batch * stride);

        kernels::RopeAppend output{};
        output.q = q.data();
        output.q_stride = static_cast<int>(stride);
        output.bias = c.has_bias ? bias_device.data() : nullptr;
        output.angles = angles_device.data();
        output.pairs = c.pairs;
        output.is_split = c.is_split;
        output.heads = c.heads;
        output.kv_heads = c.kv_heads;
        output.head_bits = c.head_dim == 64 ? 6 : 7;
        output.cache = {table_device.data(),
                        kBlocks,
                        positions_device.data(),
                        kLayerTiles * tile * 2,
                        (kLayerTiles + static_cast<std::size_t>(c.kv_heads)) * tile * 2,
                        tile * 2};
        const kernels::NormInput input = {x_device.data(), kColumns, weight_device.data(), 1e-5f};
        REQUIRE(kernels::launch_gemv(device.view, input, output, batch, kNano, nullptr).ok());

        std::vector<std::uint16_t> expected_cache(batch * kBlocks * tiles * tile, 0xffff);
        std::vector<std::vector<float>> expected_q(static_cast<std::size_t>(batch));
        for (int b = 0; b < batch; ++b) {
          const std::vector<float> y =
              gemv_model::product(matrix, gemv_model::normed(x.row(b), weight, 1e-5f));
          const int position = kPositions[b];
          for (int h = 0; h < c.heads; ++h) {
            for (const float v : rotated(c, y, bias, angles, h, position)) {
              expected_q[static_cast<std::size_t>(b)].push_back(v);
            }
          }
          const std::size_t base = static_cast<std::size_t>(position / 32 * batch + b) * tiles;
          for (int h = 0; h < 2 * c.kv_heads; ++h) {
            const auto values = h < c.kv_heads ? rotated(c, y, bias, angles, c.heads + h, position)
                                               : plain(c, y, bias, c.heads + h);
            const std::size_t at = (base + kLayerTiles + static_cast<std::size_t>(h)) * tile +
                                   static_cast<std::size_t>(position % 32 * c.head_dim);
            for (std::size_t e = 0; e < values.size(); ++e) {
              expected_cache[at + e] = half_bits(values[e]);
            }
          }
        }
        CHECK(differences(q.read(), expected_q, stride) == 0);
        const std::vector<std::uint16_t> got = cache.read();
        std::size_t wrong = 0;
        for (std::size_t i = 0; i < got.size(); ++i) wrong += got[i] != expected_cache[i];
        CHECK(wrong == 0);
      }
    }
  }
}

TEST_CASE("outputs that cannot be Q, K and V are refused") {
  const auto matrix = random_matrix(octet::Format::kW8, 4 * 64, 64, 41);
  const DeviceMatrix device(matrix);
  const DeviceArray<float> x(64), q(128), angles(64);
  const DeviceArray<std::uint8_t*> table(1);
  const DeviceArray<std::int32_t> positions(1);
  const kernels::NormInput input = {x.data(), 64, x.data(), 1e-5f};
  const kernels::RopeAppend good = {q.data(), 128,
                                    nullptr,  angles.data(),
                                    32,       false,
                                    2,        1,
                                    6,        {table.data(), 1, positions.data(), 0, 0, 4096}};
  const auto refuses = [&](void (*change)(kernels::RopeAppend&)) {
    kernels::RopeAppend output = good;
    change(output);
    return kernels::launch_gemv(device.view, input, output, 1, kNano, nullptr).refusal != nullptr;
  };
  CHECK(refuses([](kernels::RopeAppend& o) { o.head_bits = 5; }));
  CHECK(refuses([](kernels::RopeAppend& o) { o.head_bits = 7; }));
  CHECK(refuses([](kernels::RopeAppend& o) { o.heads = 3; }));
  CHECK(refuses([](kernels::RopeAppend& o) { o.kv_heads = 2; }));
  CHECK(refuses([](kernels::RopeAppend& o) { o.kv_heads = 0; }));
  CHECK(refuses([](kernels::RopeAppend& o) { o.pairs = 33; }));
  CHECK(refuses([](kernels::RopeAppend& o) { o.pairs = -1; }));
  CHECK(refuses([](kernels::RopeAppend& o) { o.angles = nullptr; }));
  CHECK(refuses([](kernels::RopeAppend& o) { o.q_stride = 127; }));
  CHECK(refuses([](kernels::RopeAppend& o) { o.q = nullptr; }));
  CHECK(refuses([](kernels::RopeAppend& o) { o.cache.blocks = nullptr; }));
  CHECK(refuses([](kernels::RopeAppend& o) { o.cache.positions = nullptr; }));
  CHECK(refuses([](kernels::RopeAppend& o) { o.cache.blocks_stride = 0; }));
}
