// Weights for the INT8 products: against a Hadamard matrix written out, in double.
#include "kvferry/compute/ampere/int8_matrix.hpp"

#include <algorithm>
#include <numeric>
#include <string>

#include "kvferry/compute/dequantise.hpp"

#include "cpu_fixture.hpp"

using namespace kvferry;
using namespace cpu_fixture;
using ampere::Int8Matrix;

namespace {

bool is_odd(unsigned bits) {
  bool odd = false;
  for (; bits != 0; bits &= bits - 1) odd = !odd;
  return odd;
}

// H / sqrt(block) times each block of the row.
std::vector<double> rotated(const std::vector<float>& row, std::size_t block) {
  std::vector<double> out(row.size());
  for (std::size_t i = 0; i < row.size(); ++i) {
    const std::size_t first = i / block * block;
    double sum = 0;
    for (std::size_t j = 0; j < block; ++j) {
      const double v = row[first + j];
      sum += is_odd(static_cast<unsigned>((i - first) & j)) ? -v : v;
    }
    out[i] = sum / std::sqrt(static_cast<double>(block));
  }
  return out;
}

// Every quant is within half a step of the rotated row, and the largest reaches 127.
void check_row(const Tensor& tensor, std::size_t row, const Int8Matrix& m, std::size_t at) {
  std::vector<float> values(tensor.columns);
  dequantise_row(tensor.view(), row, values);
  const std::vector<double> expected = rotated(values, static_cast<std::size_t>(m.block()));
  const double scale = m.scales()[at];
  const std::int8_t* quants = m.quants() + at * m.padded();
  int largest = 0;
  double worst = 0;
  for (std::size_t c = 0; c < m.columns(); ++c) {
    largest = std::max(largest, std::abs(static_cast<int>(quants[c])));
    const double error = std::fabs(expected[c] - scale * quants[c]) / scale;
    if (!(error <= worst)) worst = error;
  }
  // Rounding by half a step, and 7 sums of the rotation in F32 of values of up to 127 steps.
  CHECK(worst <= 0.5 + 127 * 8 * 6e-8);
  CHECK(largest == 127);
  for (std::size_t c = m.columns(); c < m.padded(); ++c) CHECK(quants[c] == 0);
}

Int8Matrix quantized(const Tensor& tensor, int limit) {
  ThreadPool pool(2);
  const TensorView view = tensor.view();
  return Int8Matrix::quantize(ampere::rows_in_order(view), limit, pool).value();
}

void put_float(Tensor& tensor, std::size_t index, float value) {
  std::memcpy(tensor.bytes.data() + 4 * index, &value, 4);
}

}  // namespace

TEST_CASE("rows of every type are rotated and quantised on their own") {
  for (const TensorType type :
       {TensorType::kF32, TensorType::kF16, TensorType::kBF16, TensorType::kQ4_0, TensorType::kQ4_1,
        TensorType::kQ5_0, TensorType::kQ5_1, TensorType::kQ8_0, TensorType::kQ4_K,
        TensorType::kQ5_K, TensorType::kQ6_K}) {
    CAPTURE(name_of(type));
    const Tensor tensor = random_tensor(type, 37, 512, 5);
    const Int8Matrix m = quantized(tensor, 64);
    REQUIRE(m.rows() == 37);
    REQUIRE(m.columns() == 512);
    CHECK(m.padded() == 512);
    CHECK(m.block() == 64);
    for (std::size_t r = 0; r < m.rows(); ++r) check_row(tensor, r, m, r);
  }
}

TEST_CASE("the block is the largest power of two that divides the row") {
  struct Case {
    std::uint64_t columns;
    int limit;
    int block;
    std::size_t padded;
  };
  for (const Case c : {Case{576, 64, 64, 576}, Case{1536, 128, 128, 1536}, Case{100, 64, 4, 128},
                       Case{63, 128, 1, 64}, Case{1, 64, 1, 64}, Case{96, 128, 32, 128},
                       Case{512, 1, 1, 512}, Case{5632, 128, 128, 5632}}) {
    CAPTURE(c.columns, c.limit);
    const Tensor tensor = random_tensor(TensorType::kF32, 3, c.columns, 6);
    const Int8Matrix m = quantized(tensor, c.limit);
    CHECK(m.block() == c.block);
    REQUIRE(m.padded() == c.padded);
    for (std::size_t r = 0; r < m.rows(); ++r) check_row(tensor, r, m, r);
  }
}

TEST_CASE("rows without a magnitude are zeros, and those that are not finite are refused") {
  Tensor tensor = random_tensor(TensorType::kF32, 5, 64, 7);
  for (std::size_t c = 0; c < 64; ++c) {
    put_float(tensor, 64 + c, 0.0f);
    put_float(tensor, 2 * 64 + c, 1e-40f);
    put_float(tensor, 3 * 64 + c, c == 0 ? 3e38f : 0.0f);
  }
  const Int8Matrix m = quantized(tensor, 64);
  for (std::size_t r = 1; r <= 2; ++r) {
    CHECK(m.scales()[r] == 0.0f);
    CHECK(std::count(m.quants() + r * 64, m.quants() + (r + 1) * 64, 0) == 64);
  }
  check_row(tensor, 3, m, 3);

  ThreadPool pool(2);
  for (const float bad : {kNaN, std::numeric_limits<float>::infinity()}) {
    Tensor broken = tensor;
    put_float(broken, 4 * 64 + 17, bad);
    const TensorView view = broken.view();
    const auto result = Int8Matrix::quantize(ampere::rows_in_order(view), 64, pool);
    REQUIRE(!result.ok());
    CHECK(result.error().code == ErrorCode::kInvalidArgument);
    CHECK(result.error().message.find("row 4 ") != std::string::npos);
  }
  put_float(tensor, 3 * 64 + 1, 3e38f);  // their sum is not finite
  const TensorView view = tensor.view();
  CHECK(!Int8Matrix::quantize(ampere::rows_in_order(view), 64, pool).ok());
  CHECK(Int8Matrix::quantize(ampere::rows_in_order(view), 1, pool).ok());
}

TEST_CASE("shapes that cannot be are refused") {
  ThreadPool pool(1);
  const Tensor tensor = random_tensor(TensorType::kQ4_0, 4, 64, 8);
  const Tensor wider = random_tensor(TensorType::kQ4_0, 4, 96, 8);
  const TensorView good = tensor.view(), other = wider.view();
  const auto quantize = [&](const std::vector<ampere::WeightRow>& rows) {
    return Int8Matrix::quantize(rows, 64, pool).ok();
  };
  CHECK(quantize({{&good, 3}}));
  CHECK(!quantize({}));
  CHECK(!quantize({{&good, 4}}));
  CHECK(!quantize({{&good, 0}, {&other, 0}}));
  for (const int limit : {0, -1, 3, 256}) {
    CHECK(!Int8Matrix::quantize(std::vector<ampere::WeightRow>{{&good, 0}}, limit, pool).ok());
  }
  TensorView view = good;
  view.rows = 5;
  CHECK(!quantize({{&view, 0}}));
  view = good;
  view.columns = 48;
  CHECK(!quantize({{&view, 0}}));
  view.columns = 0;
  CHECK(!quantize({{&view, 0}}));
  view.columns = std::uint64_t{1} << 62;
  CHECK(!quantize({{&view, 0}}));
  view = good;
  view.data = view.data.first(view.data.size() - 1);
  CHECK(!quantize({{&view, 0}}));
}

TEST_CASE("gate and up by turns; Q, K and V in the order of their pairs") {
  const Tensor a = random_tensor(TensorType::kF32, 6, 64, 9);
  const Tensor b = random_tensor(TensorType::kF32, 6, 64, 10);
  const TensorView gate = a.view(), up = b.view();
  ThreadPool pool(1);
  const Int8Matrix m = Int8Matrix::quantize(ampere::gate_up_rows(gate, up), 64, pool).value();
  REQUIRE(m.rows() == 12);
  for (std::size_t i = 0; i < 6; ++i) {
    check_row(a, i, m, 2 * i);
    check_row(b, i, m, 2 * i + 1);
  }

  ModelConfig config;
  config.heads = 2;
  config.kv_heads = 1;
  config.head_dim = 6;
  config.rope.inverse_frequency = {1.0f, 0.5f};
  std::vector<std::uint32_t> in_order(24);
  std::iota(in_order.begin(), in_order.end(), 0u);
  config.rope.layout = RopeLayout::kInterleaved;
  CHECK(ampere::paired_channels(config) == in_order);
  config.rope.layout = RopeLayout::kSplitHalves;
  const std::vector<std::uint32_t> paired = ampere::paired_channels(config);
  CHECK(paired == std::vector<std::uint32_t>{0,  2,  1,  3,  4,  5,  6,  8,  7,  9,  10, 11,
                                             12, 14, 13, 15, 16, 17, 18, 19, 20, 21, 22, 23});
  const Tensor tq = random_tensor(TensorType::kF32, 12, 64, 11);
  const TensorView q = tq.view(), k = gate, v = up;
  const std::vector<ampere::WeightRow> rows = ampere::rows_of_channels(paired, q, k, v);
  REQUIRE(rows.size() == 24);
  CHECK(rows[1].tensor == &q);
  CHECK(rows[1].row == 2);
  CHECK(rows[13].tensor == &k);
  CHECK(rows[13].row == 2);
  CHECK(rows[19].tensor == &v);
  CHECK(rows[19].row == 1);
}
