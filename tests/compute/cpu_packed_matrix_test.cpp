// Repacking: what comes out is what went in, and what cannot be packed is refused.
#include "kvferry/compute/cpu/packed_matrix.hpp"
#include "kvferry/compute/dequantise.hpp"

#include "cpu_fixture.hpp"

using namespace kvferry;
using namespace cpu_fixture;
using cpu::PackedMatrix;

namespace {

double worst_relative(const Tensor& tensor, const PackedMatrix& m, double floor) {
  double worst = 0;
  std::vector<float> expected(tensor.columns), got(tensor.columns);
  for (std::size_t r = 0; r < tensor.rows; ++r) {
    dequantise_row(tensor.view(), r, expected);
    std::fill(got.begin(), got.end(), kNaN);
    m.unpack_row(r, got.data());
    for (std::size_t c = 0; c < tensor.columns; ++c) {
      const double a = expected[c], b = got[c];
      const double error = std::fabs(a - b) / std::max(std::fabs(a), floor);
      if (!(error <= worst)) worst = error;
      if (worst != worst) return worst;
    }
  }
  return worst;
}

}  // namespace

TEST_CASE("a packed row is the dequantised row") {
  ThreadPool pool(2);
  for (const TensorType type :
       {TensorType::kF16, TensorType::kBF16, TensorType::kQ4_0, TensorType::kQ4_1,
        TensorType::kQ5_0, TensorType::kQ5_1, TensorType::kQ8_0}) {
    const Tensor tensor = random_tensor(type, 37, 512, 21);
    const PackedMatrix m = PackedMatrix::pack(tensor.view(), pool).value();
    CAPTURE(name_of(type));
    CHECK(m.rows() == 37);
    CHECK(m.columns() == 512);
    CHECK(worst_relative(tensor, m, 1e-9) == 0.0);
  }
  for (const TensorType type :
       {TensorType::kF32, TensorType::kQ4_K, TensorType::kQ5_K, TensorType::kQ6_K}) {
    const Tensor tensor = random_tensor(type, 37, 512, 22);
    const PackedMatrix m = PackedMatrix::pack(tensor.view(), pool).value();
    CAPTURE(name_of(type));
    // scale * q and the minimum, below 0.3 and 0.2 here, are each off by at most 2^-11 of
    // themselves.
    CHECK(worst_relative(tensor, m, 0.5) <= 1.0 / 2048);
  }
}

TEST_CASE("values out of F16's range keep their size") {
  ThreadPool pool(1);
  for (const float size : {1e30f, 1e-30f, 1e6f, 1.0f}) {
    for (const TensorType type : {TensorType::kF32, TensorType::kBF16}) {
      Tensor tensor{type, 3, 5, {}};
      for (const float v : random_floats(15, 3, size)) {
        const std::uint32_t bits = type == TensorType::kF32 ? float_bits(v) : to_bfloat16(v).bits;
        const std::size_t bytes = block_bytes(type);
        const std::uint8_t* p = reinterpret_cast<const std::uint8_t*>(&bits);
        tensor.bytes.insert(tensor.bytes.end(), p, p + bytes);
      }
      const PackedMatrix m = PackedMatrix::pack(tensor.view(), pool).value();
      CAPTURE(size, name_of(type));
      CHECK(worst_relative(tensor, m, 1e-3 * static_cast<double>(size)) <= 1.0 / 2048);
    }
  }
}

TEST_CASE("tensors that cannot be packed are refused with their row") {
  ThreadPool pool(2);
  const auto message = [&](const TensorView& view) {
    const auto packed = PackedMatrix::pack(view, pool);
    REQUIRE_FALSE(packed.ok());
    CHECK(packed.error().code == ErrorCode::kInvalidArgument);
    return packed.error().message;
  };
  Tensor tensor = random_tensor(TensorType::kQ4_1, 20, 64, 1);
  const std::size_t row = 2 * block_bytes(TensorType::kQ4_1);
  put_half(tensor.bytes.data() + 17 * row, INFINITY);
  put_half(tensor.bytes.data() + 18 * row + 2, kNaN);
  CHECK(message(tensor.view()).find("row 17 ") != std::string::npos);

  Tensor plain = random_tensor(TensorType::kF32, 4, 3, 1);
  const float nan = kNaN;
  std::memcpy(plain.bytes.data() + 4 * 7, &nan, 4);
  CHECK(message(plain.view()).find("row 2 ") != std::string::npos);

  const Tensor good = random_tensor(TensorType::kQ8_0, 4, 64, 1);
  TensorView view = good.view();
  view.rows = 5;
  message(view);
  view.rows = std::uint64_t{1} << 62;
  message(view);
  view.rows = 0;
  message(view);
  view = good.view();
  view.columns = 48;
  message(view);
  view.columns = std::uint64_t{1} << 63;
  message(view);
  view.columns = 0;
  message(view);
  view = good.view();
  view.data = Bytes();
  message(view);
}
