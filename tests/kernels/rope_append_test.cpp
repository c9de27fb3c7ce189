// Q, K and V of one step under emulation: bias, rotation, and what is written into the caches.
#include <cmath>
#include <cstring>

#include <catch2/catch.hpp>

#include "src/compute/maxwell/gemv.hpp"
#include "src/compute/maxwell/norm_rope_append.hpp"
#include "tests/kernels/device_array.hpp"
#include "tests/kernels/gemv_fixture.hpp"
#include "tests/kernels/gemv_model.hpp"
#include "tests/kernels/half_arithmetic.hpp"

using namespace kvferry;
using namespace gemv_fixture;
using device_test::DeviceArray;

namespace {

constexpr int kColumns = 288;
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

// As the caches hold a value: rounded, cut off at F16's largest number.
std::uint16_t half_bits(float value) {
  if (std::isnan(value)) return 0x7fff;
  const double cut = std::min(std::max(static_cast<double>(value), -65504.0), 65504.0);
  return half_arithmetic::to_bits(half_arithmetic::to_half(cut));
}

// The places of Q, K and V of a batch on the device, and what they should hold afterwards.
struct Places {
  Places(const Case& shape, int vectors, const std::vector<float>& file_bias)
      : c(shape),
        batch(vectors),
        tile(32 * static_cast<std::size_t>(c.head_dim)),
        tiles(kLayerTiles + 2 * static_cast<std::size_t>(c.kv_heads) + 1),
        stride(static_cast<std::size_t>(c.heads * c.head_dim) + 3),
        angles(random_angles(c)),
        expected_cache(batch * kBlocks * tiles * tile, 0xffff),
        expected_q(static_cast<std::size_t>(batch)),
        cache(expected_cache.size()),
        q(batch * stride),
        angles_device(angles),
        bias_device(file_bias),
        table(block_table()),
        positions(std::vector<std::int32_t>(kPositions, kPositions + batch)) {}

  static std::vector<float> random_angles(const Case& c) {
    std::vector<float> angles;
    for (int i = 0; i < kMostPositions * std::max(c.pairs, 1); ++i) {
      angles.push_back(static_cast<float>(std::cos(0.01 * i)));
      angles.push_back(static_cast<float>(std::sin(0.01 * i)));
    }
    return angles;
  }
  // Sequences' blocks lie by turns.
  std::vector<std::uint8_t*> block_table() const {
    std::vector<std::uint8_t*> blocks;
    for (int i = 0; i < batch * kBlocks; ++i) {
      const int block = i % kBlocks * batch + i / kBlocks;
      blocks.push_back(reinterpret_cast<std::uint8_t*>(cache.data() + block * tiles * tile));
    }
    return blocks;
  }
  kernels::RopeAppend output() const {
    return {q.data(),
            static_cast<int>(stride),
            c.has_bias ? bias_device.data() : nullptr,
            angles_device.data(),
            c.pairs,
            c.is_split,
            c.heads,
            c.kv_heads,
            c.head_dim == 64 ? 6 : 7,
            {table.data(), kBlocks, positions.data(), kLayerTiles * tile * 2,
             (kLayerTiles + static_cast<std::size_t>(c.kv_heads)) * tile * 2, tile * 2}};
  }
  // Vector b's head `head`: Q's, then K's, then V's.
  void expect(int b, int head, const std::vector<float>& values) {
    if (head < c.heads) {
      auto& row = expected_q[static_cast<std::size_t>(b)];
      row.insert(row.end(), values.begin(), values.end());
      return;
    }
    const int position = kPositions[b];
    const std::size_t base = static_cast<std::size_t>(position / 32 * batch + b) * tiles;
    const std::size_t at = (base + kLayerTiles + static_cast<std::size_t>(head - c.heads)) * tile +
                           static_cast<std::size_t>(position % 32 * c.head_dim);
    for (std::size_t e = 0; e < values.size(); ++e) expected_cache[at + e] = half_bits(values[e]);
  }
  void check() const {
    CHECK(differences(q.read(), expected_q, stride) == 0);
    const std::vector<std::uint16_t> got = cache.read();
    std::size_t wrong = 0;
    for (std::size_t i = 0; i < got.size(); ++i) wrong += got[i] != expected_cache[i];
    CHECK(wrong == 0);
  }

  const Case c;
  const int batch;
  const std::size_t tile, tiles, stride;
  const std::vector<float> angles;
  std::vector<std::uint16_t> expected_cache;  // of this layer and of others
  std::vector<std::vector<float>> expected_q;
  const DeviceArray<std::uint16_t> cache;
  const DeviceArray<float> q, angles_device, bias_device;
  const DeviceArray<std::uint8_t*> table;
  const DeviceArray<std::int32_t> positions;
};

// Values large enough to be cut off, and a NaN, in V.
void plant_extremes(std::vector<float>& values) {
  values[values.size() - 1] = 1e6f;
  values[values.size() - 2] = -1e6f;
  values[values.size() - 3] = kNaN;
}

// A head's values over the root of their mean square, as the kernel computes it.
std::vector<float> normed_head(const float* values, int head_dim, const std::vector<float>& weight,
                               float epsilon) {
  float lanes[32] = {};
  for (int e = 0; e < head_dim; ++e) lanes[e % 32] = std::fma(values[e], values[e], lanes[e % 32]);
  for (int n = 32; n > 1; n /= 2) {
    for (int i = 0; i < n / 2; ++i) lanes[i] = lanes[2 * i] + lanes[2 * i + 1];
  }
  const float scale = 1.0f / std::sqrt(lanes[0] / static_cast<float>(head_dim) + epsilon);
  std::vector<float> result;
  for (int e = 0; e < head_dim; ++e) {
    result.push_back(values[e] * scale * weight[static_cast<std::size_t>(e)]);
  }
  return result;
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
        plant_extremes(bias);
        Places places(c, batch, bias);
        const DeviceArray<float> x_device(x.values), weight_device(weight);
        const kernels::NormInput input = {x_device.data(), kColumns, weight_device.data(), 1e-5f};
        REQUIRE(
            kernels::launch_gemv(device.view, input, places.output(), batch, kNano, nullptr).ok());

        for (int b = 0; b < batch; ++b) {
          const std::vector<float> y =
              gemv_model::product(matrix, gemv_model::normed(x.row(b), weight, 1e-5f));
          for (int h = 0; h < c.heads + 2 * c.kv_heads; ++h) {
            const bool is_v = h >= c.heads + c.kv_heads;
            places.expect(
                b, h,
                is_v ? plain(c, y, bias, h) : rotated(c, y, bias, places.angles, h, kPositions[b]));
          }
        }
        places.check();
      }
    }
  }
}

TEST_CASE("heads of Q and K are normed before they are rotated") {
  for (const Case& c : kCases) {
    for (int batch = 1; batch <= 4; ++batch) {
      CAPTURE(c.head_dim, c.heads, c.pairs, c.is_split, batch);
      const std::size_t rows = static_cast<std::size_t>((c.heads + 2 * c.kv_heads) * c.head_dim);
      Rows x(batch, rows, rows + 1, 51);
      const std::size_t values = static_cast<std::size_t>(c.head_dim);
      const std::vector<float> q_norm = cpu_fixture::random_floats(values, 52);
      const std::vector<float> k_norm = cpu_fixture::random_floats(values, 53);
      for (int b = 0; b < batch; ++b) {
        std::vector<float> row = x.row(b);
        plant_extremes(row);
        std::copy(row.begin(), row.end(),
                  x.values.begin() + static_cast<std::ptrdiff_t>(b * x.stride));
      }
      // A bias that has to be left alone.
      Places places(c, batch, std::vector<float>(rows, 1.0f));
      const DeviceArray<float> x_device(x.values), q_device(q_norm), k_device(k_norm);
      const kernels::HeadRows input = {x_device.data(), static_cast<int>(x.stride), q_device.data(),
                                       k_device.data(), 1e-6f};
      REQUIRE(kernels::launch_norm_rope_append(input, places.output(), batch, nullptr).ok());

      // As if each head's rows were in pairs already, for the model that expects them so.
      const Case natural = {c.head_dim, c.heads, c.kv_heads, c.pairs, c.is_split, false};
      for (int b = 0; b < batch; ++b) {
        const std::vector<float> row = x.row(b);
        for (int h = 0; h < c.heads + 2 * c.kv_heads; ++h) {
          const float* head = row.data() + h * c.head_dim;
          if (h >= c.heads + c.kv_heads) {
            places.expect(b, h, std::vector<float>(head, head + c.head_dim));
            continue;
          }
          const auto normed = normed_head(head, c.head_dim, h < c.heads ? q_norm : k_norm, 1e-6f);
          std::vector<float> paired(normed.size());
          for (int e = 0; e < c.head_dim; ++e) {
            paired[static_cast<std::size_t>(row_of(c, e))] = normed[static_cast<std::size_t>(e)];
          }
          places.expect(b, h, rotated(natural, paired, {}, places.angles, 0, kPositions[b]));
        }
      }
      places.check();
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
    return !kernels::launch_gemv(device.view, input, output, 1, kNano, nullptr).ok();
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

TEST_CASE("heads that cannot be normed are refused") {
  const DeviceArray<float> x(256), q(128), angles(64);
  const DeviceArray<std::uint8_t*> table(1);
  const DeviceArray<std::int32_t> positions(1);
  const kernels::HeadRows good = {x.data(), 256, x.data(), x.data(), 1e-6f};
  const kernels::RopeAppend output = {q.data(), 128,
                                      nullptr,  angles.data(),
                                      32,       false,
                                      2,        1,
                                      6,        {table.data(), 1, positions.data(), 0, 0, 4096}};
  const auto refuses = [&](const kernels::HeadRows& input, const kernels::RopeAppend& to,
                           int batch) {
    return !kernels::launch_norm_rope_append(input, to, batch, nullptr).ok();
  };
  CHECK(refuses(good, output, 0));
  kernels::HeadRows input = good;
  input.stride = 255;
  CHECK(refuses(input, output, 1));
  input = good;
  input.q_norm = nullptr;
  CHECK(refuses(input, output, 1));
  input = good;
  input.k_norm = nullptr;
  CHECK(refuses(input, output, 1));
  input = good;
  input.x = nullptr;
  CHECK(refuses(input, output, 1));
  kernels::RopeAppend wrong = output;
  wrong.heads = 0;
  CHECK(refuses(good, wrong, 1));
  wrong = output;
  wrong.heads = 1 << 20;
  CHECK(refuses(good, wrong, 1));
  wrong = output;
  wrong.head_bits = 8;
  CHECK(refuses(good, wrong, 1));
  wrong = output;
  wrong.q = nullptr;
  CHECK(refuses(good, wrong, 1));
}
