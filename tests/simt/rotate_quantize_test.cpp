// rotate_quantize: the same bits as the documented arithmetic in plain loops, and near to what it
// stands for in double; rows without a magnitude and rows that are not finite.
#include "src/compute/ampere/rotate_quantize.cu"

#include <cmath>
#include <cstdint>
#include <limits>
#include <random>
#include <vector>

#include <catch2/catch.hpp>

#include "kvferry/core/half.hpp"

#include "device_array.hpp"

using namespace kvferry::kernels;
using kvferry_test::DeviceArray;

namespace {

constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();
constexpr float kInfinity = std::numeric_limits<float>::infinity();

struct Quantized {
  std::vector<std::int8_t> quants;
  float scale;
};

// A row's arithmetic. `weight` is empty where there is no norm.
Quantized plain(const std::vector<float>& x, const std::vector<float>& weight, float epsilon,
                std::size_t block) {
  const std::size_t columns = x.size(), padded = (columns + 63) / 64 * 64;
  std::vector<float> v(padded, 0.0f), squared(padded, 0.0f);
  for (std::size_t i = 0; i < columns; ++i) {
    v[i] = weight.empty() ? x[i] : x[i] * weight[i];
    squared[i] = weight.empty() ? 0.0f : x[i];
  }

  for (std::size_t stride = 1; stride < block; stride *= 2) {
    std::vector<float> next(v);
    for (std::size_t i = 0; i < columns; ++i) {
      const float other = v[i ^ stride];
      next[i] = (i & stride) != 0 ? other - v[i] : v[i] + other;
    }
    v.swap(next);
  }

  std::size_t chunks = 1;
  while (padded > chunks * 2048) chunks *= 2;
  const std::size_t warps = (padded + 256 * chunks - 1) / (256 * chunks);
  float sum = 0.0f;
  for (std::size_t warp = 0; warp < warps; ++warp) {
    float lanes[32];
    for (std::size_t lane = 0; lane < 32; ++lane) {
      lanes[lane] = 0.0f;
      for (std::size_t chunk = 0; chunk < chunks; ++chunk) {
        const std::size_t first = 8 * ((chunk * warps + warp) * 32 + lane);
        for (std::size_t i = first; i < first + 8 && i < columns; ++i) {
          lanes[lane] = std::fma(squared[i], squared[i], lanes[lane]);
        }
      }
    }
    for (std::size_t count = 16; count > 0; count /= 2) {
      for (std::size_t lane = 0; lane < count; ++lane) {
        lanes[lane] = lanes[2 * lane] + lanes[2 * lane + 1];
      }
    }
    sum += lanes[0];
  }
  float factor = 1.0f;
  if (!weight.empty()) factor = 1.0f / std::sqrt(sum / static_cast<float>(columns) + epsilon);

  float largest = 0.0f;
  bool is_finite = std::isfinite(sum);
  for (const float f : v) {
    is_finite = is_finite && std::isfinite(f);
    largest = std::fmax(largest, std::fabs(f));
  }
  Quantized result{std::vector<std::int8_t>(padded, 0), is_finite ? 0.0f : kNaN};
  if (!is_finite || largest < std::ldexp(1.0f, -120)) return result;
  const float inverse = 127.0f / largest;
  for (std::size_t i = 0; i < padded; ++i) {
    result.quants[i] = static_cast<std::int8_t>(std::lrint(v[i] * inverse));
  }
  const float unit = static_cast<float>(1.0 / (127.0 * std::sqrt(static_cast<double>(block))));
  result.scale = largest * unit * factor;
  return result;
}

// What the quants and the scale stand for.
std::vector<double> exact(const std::vector<float>& x, const std::vector<float>& weight,
                          double epsilon, std::size_t block) {
  double sum = 0;
  for (const double v : x) sum += v * v;
  const double count = static_cast<double>(x.size());
  const double factor = weight.empty() ? 1.0 : 1.0 / std::sqrt(sum / count + epsilon);
  std::vector<double> out(x.size());
  for (std::size_t i = 0; i < x.size(); ++i) {
    const std::size_t first = i / block * block;
    for (std::size_t j = 0; j < block; ++j) {
      const bool odd = __builtin_parityl((i - first) & j) != 0;
      const double v = x[first + j] * (weight.empty() ? 1.0 : weight[first + j]) * factor;
      out[i] += (odd ? -v : v) / std::sqrt(static_cast<double>(block));
    }
  }
  return out;
}

enum class Kind { kFloat, kHalf, kNormed };

struct Shape {
  Kind kind;
  int columns;
  int block;
};

std::vector<float> random_row(std::mt19937& engine, std::size_t count, float size) {
  std::normal_distribution<float> normal(0.0f, size);
  std::vector<float> row(count);
  for (float& v : row) v = normal(engine);
  return row;
}

// Runs rows of [rows, columns] through the launcher, and compares each with plain().
class Batch {
 public:
  Batch(const Shape& shape, const std::vector<std::vector<float>>& rows,
        const std::vector<float>& weight)
      : shape_(shape), rows_(rows), weight_(weight) {
    if (shape.kind != Kind::kHalf) return;
    for (std::vector<float>& row : rows_) {
      for (float& v : row) v = kvferry::to_float(kvferry::to_half(v));
    }
  }

  void run() {
    const std::size_t padded = (static_cast<std::size_t>(shape_.columns) + 63) / 64 * 64;
    std::vector<float> all;
    std::vector<__half> halves;
    for (const std::vector<float>& row : rows_) {
      all.insert(all.end(), row.begin(), row.end());
      for (const float v : row) halves.push_back(__float2half_rn(v));
    }
    const DeviceArray<float> floats(all), weight(weight_);
    const DeviceArray<__half> half_rows(halves);
    const DeviceArray<std::int8_t> quants(rows_.size() * padded);
    const DeviceArray<float> scales(rows_.size());
    const QuantizedRows out = {quants.data(), scales.data()};
    const int rows = static_cast<int>(rows_.size());
    LaunchStatus status;
    if (shape_.kind == Kind::kFloat) {
      status = launch_rotate_quantize(FloatRows{floats.data()}, rows, shape_.columns, shape_.block,
                                      out, 0);
    } else if (shape_.kind == Kind::kHalf) {
      status = launch_rotate_quantize(HalfRows{half_rows.data()}, rows, shape_.columns,
                                      shape_.block, out, 0);
    } else {
      status = launch_rotate_quantize(NormedRows{floats.data(), weight.data(), kEpsilon}, rows,
                                      shape_.columns, shape_.block, out, 0);
    }
    REQUIRE(status.ok());
    quants_ = quants.values();
    scales_ = scales.values();
    compare(padded);
  }

  float scale(std::size_t row) const { return scales_[row]; }
  std::int8_t quant(std::size_t row, std::size_t column) const {
    return quants_[row * (quants_.size() / rows_.size()) + column];
  }

 private:
  static constexpr float kEpsilon = 1e-5f;

  void compare(std::size_t padded) const {
    const std::vector<float> none;
    const std::vector<float>& weight = shape_.kind == Kind::kNormed ? weight_ : none;
    const auto block = static_cast<std::size_t>(shape_.block);
    for (std::size_t r = 0; r < rows_.size(); ++r) {
      CAPTURE(r);
      const Quantized expected = plain(rows_[r], weight, kEpsilon, block);
      const std::int8_t* got = quants_.data() + r * padded;
      std::size_t different = 0;
      for (std::size_t i = 0; i < padded; ++i) different += got[i] != expected.quants[i];
      CHECK(different == 0);
      const float scale = scales_[r];
      CHECK((scale == expected.scale || (scale != scale && expected.scale != expected.scale)));
      if (!(scale > 0)) continue;
      const std::vector<double> truth = exact(rows_[r], weight, kEpsilon, block);
      double worst = 0;
      int largest = 0;
      for (std::size_t i = 0; i < truth.size(); ++i) {
        worst = std::fmax(worst, std::fabs(truth[i] - double{scale} * got[i]) / scale);
        largest = std::max(largest, std::abs(static_cast<int>(got[i])));
      }
      // Half a step; up to 7 sums of up to 127 sqrt(128) steps and the norm's roundings.
      CHECK(worst <= 0.5 + 127 * 11.4 * 7 * 6e-8 + 127 * 16 * 6e-8);
      CHECK(largest == 127);
    }
  }

  Shape shape_;
  std::vector<std::vector<float>> rows_;
  std::vector<float> weight_;
  std::vector<std::int8_t> quants_;
  std::vector<float> scales_;
};

}  // namespace

TEST_CASE("rows of every length, with and without norm and rotation") {
  const Shape shapes[] = {
      {Kind::kNormed, 4, 4},      {Kind::kNormed, 8, 8},     {Kind::kNormed, 36, 4},
      {Kind::kNormed, 64, 64},    {Kind::kNormed, 100, 4},   {Kind::kNormed, 576, 64},
      {Kind::kNormed, 896, 64},   {Kind::kNormed, 2048, 64}, {Kind::kNormed, 2052, 2},
      {Kind::kNormed, 4096, 64},  {Kind::kNormed, 5120, 64}, {Kind::kNormed, 8192, 64},
      {Kind::kNormed, 16384, 64}, {Kind::kHalf, 12, 1},      {Kind::kHalf, 576, 1},
      {Kind::kHalf, 576, 16},     {Kind::kHalf, 1536, 128},  {Kind::kHalf, 4864, 128},
      {Kind::kHalf, 5632, 128},   {Kind::kHalf, 8960, 128},  {Kind::kHalf, 11008, 128},
      {Kind::kHalf, 14336, 128},  {Kind::kFloat, 4, 1},      {Kind::kFloat, 264, 8},
      {Kind::kFloat, 2080, 32},   {Kind::kFloat, 2048, 1},   {Kind::kFloat, 6144, 128},
      {Kind::kFloat, 16384, 128}};
  std::mt19937 engine(61);
  for (const Shape& shape : shapes) {
    CAPTURE(static_cast<int>(shape.kind), shape.columns, shape.block);
    const auto columns = static_cast<std::size_t>(shape.columns);
    std::vector<std::vector<float>> rows;
    for (const float size : {1.0f, 1e-3f, 300.0f})
      rows.push_back(random_row(engine, columns, size));
    rows[1][columns / 2] = 40.0f;  // a massive channel
    Batch(shape, rows, random_row(engine, columns, 1.0f)).run();
  }
}

TEST_CASE("to the nearest, ties to even; nothing beyond 127") {
  std::vector<float> row(64, 0.0f);
  row[0] = -127.0f;
  for (int i = 1; i < 64; ++i) row[static_cast<std::size_t>(i)] = static_cast<float>(i) - 32.5f;
  Batch batch({Kind::kFloat, 64, 1}, {row}, row);
  batch.run();
  CHECK(batch.scale(0) == Approx(1.0));
  CHECK(batch.quant(0, 0) == -127);
  CHECK(batch.quant(0, 30) == -2);  // -2.5
  CHECK(batch.quant(0, 31) == -2);  // -1.5
  CHECK(batch.quant(0, 32) == 0);   // -0.5
  CHECK(batch.quant(0, 33) == 0);
  CHECK(batch.quant(0, 34) == 2);  // 1.5

  // Magnitudes whose inverse rounds up.
  std::mt19937 engine(62);
  for (int turn = 0; turn < 20; ++turn) {
    const float size =
        std::ldexp(1.0f + 1e-7f * static_cast<float>(engine() % 8388608), turn * 12 - 119);
    Batch({Kind::kFloat, 8, 1}, {{size, -size, 0, 0, 0, 0, size / 2, 0}}, row).run();
  }
}

TEST_CASE("rows without a magnitude are zeros with the scale 0") {
  const std::vector<float> zero(128, 0.0f), tiny(128, 1e-42f);
  std::vector<float> negative(128, -0.0f), smallest(128, 0.0f), below(128, 0.0f);
  smallest[9] = std::ldexp(1.0f, -120);
  below[9] = std::ldexp(0.999f, -120);
  for (const Kind kind : {Kind::kFloat, Kind::kNormed, Kind::kHalf}) {
    Batch batch({kind, 128, 1}, {zero, tiny, negative, smallest, below},
                std::vector<float>(128, 1.0f));
    batch.run();
    for (const std::size_t r : {0, 1, 2, 4}) {
      CHECK(batch.scale(r) == 0.0f);
      CHECK(batch.quant(r, 9) == 0);
    }
    if (kind != Kind::kHalf) {
      CHECK(batch.scale(3) > 0.0f);
      CHECK(batch.quant(3, 9) == 127);
    }
  }
}

TEST_CASE("rows that are not finite have the scale NaN, and no others have") {
  for (const Kind kind : {Kind::kFloat, Kind::kNormed, Kind::kHalf}) {
    std::mt19937 engine(63);
    std::vector<std::vector<float>> rows(7, random_row(engine, 600, 1.0f));
    rows[1][0] = kNaN;
    rows[2][599] = kInfinity;
    rows[3][300] = -kInfinity;
    rows[4][17] = kInfinity;
    rows[4][18] = -kInfinity;
    rows[5][1] = kind == Kind::kHalf ? 65504.0f : 2e38f;  // overflows when rotated or squared
    rows[5][2] = kind == Kind::kHalf ? 65504.0f : 2e38f;
    Batch batch({kind, 600, 8}, rows, random_row(engine, 600, 1.0f));
    batch.run();
    for (std::size_t r = 0; r < rows.size(); ++r) {
      CAPTURE(static_cast<int>(kind), r);
      const bool is_bad = (r >= 1 && r <= 4) || (r == 5 && kind != Kind::kHalf);
      CHECK((batch.scale(r) != batch.scale(r)) == is_bad);
      if (is_bad) CHECK(batch.quant(r, 1) == 0);
    }
  }
}

TEST_CASE("rows that cannot be quantised are refused by name") {
  const DeviceArray<float> x(256), scales(4);
  const DeviceArray<std::int8_t> quants(256);
  const QuantizedRows out = {quants.data(), scales.data()};
  const auto refused = [&](const FloatRows& input, int rows, int columns, int block,
                           const QuantizedRows& to, const char* part) {
    const LaunchStatus status = launch_rotate_quantize(input, rows, columns, block, to, 0);
    REQUIRE(!status.ok());
    CHECK(status.error().code == kvferry::ErrorCode::kInvalidArgument);
    CHECK(status.error().message.find(part) != std::string::npos);
  };
  const FloatRows in = {x.data()};
  refused(in, 0, 64, 1, out, "no rows");
  refused(in, -1, 64, 1, out, "no rows");
  refused(in, 1, 0, 1, out, "multiple of 4");
  refused(in, 1, 66, 1, out, "multiple of 4");
  refused(in, 1, -64, 1, out, "multiple of 4");
  refused(in, 1, 16388, 1, out, "multiple of 4");
  refused(in, 1, 64, 0, out, "power of two");
  refused(in, 1, 64, -64, out, "power of two");
  refused(in, 1, 96, 3, out, "power of two");
  refused(in, 1, 96, 64, out, "power of two");
  refused(in, 1, 256, 256, out, "power of two");
  refused({nullptr}, 1, 64, 1, out, "aligned");
  refused({x.data() + 1}, 1, 64, 1, out, "aligned");
  refused(in, 1, 64, 1, {nullptr, scales.data()}, "aligned");
  refused(in, 1, 64, 1, {quants.data() + 4, scales.data()}, "aligned");
  refused(in, 1, 64, 1, {quants.data(), nullptr}, "aligned");
  CHECK(!launch_rotate_quantize(NormedRows{x.data(), x.data() + 1, 0.0f}, 1, 64, 1, out, 0).ok());
  CHECK(!launch_rotate_quantize(HalfRows{nullptr}, 1, 64, 1, out, 0).ok());
  for (const float v : scales.values()) CHECK(v != v);
}
