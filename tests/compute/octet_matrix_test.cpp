// Repacking for the FP16 path: what comes out is what went in where that is promised, near it
// elsewhere, and what cannot be packed is refused.
#include "kvferry/compute/maxwell/octet_matrix.hpp"

#include "kvferry/compute/dequantise.hpp"

#include "cpu_fixture.hpp"

using namespace kvferry;
using namespace cpu_fixture;
using maxwell::OctetMatrix;
using octet::Format;

namespace {

const Format kFormats[] = {Format::kF16, Format::kW8, Format::kW4, Format::kW4Minimum};
const TensorType kTypes[] = {TensorType::kF32,  TensorType::kF16,  TensorType::kBF16,
                             TensorType::kQ4_0, TensorType::kQ4_1, TensorType::kQ5_0,
                             TensorType::kQ5_1, TensorType::kQ8_0, TensorType::kQ4_K,
                             TensorType::kQ5_K, TensorType::kQ6_K};

// random_tensor() may give Q8_0 its -128; here it does not.
Tensor plain_tensor(TensorType type, std::uint64_t rows, std::uint64_t columns,
                    std::uint32_t seed) {
  Tensor tensor = random_tensor(type, rows, columns, seed);
  if (type == TensorType::kQ8_0) {
    for (std::size_t i = 0; i < tensor.bytes.size(); ++i) {
      if (i % 34 >= 2 && tensor.bytes[i] == 0x80) tensor.bytes[i] = 0x81;
    }
  }
  return tensor;
}

Result<OctetMatrix> pack(Format format, const TensorView& view) {
  ThreadPool pool(2);
  const TensorView tensors[] = {view};
  const std::size_t rows = static_cast<std::size_t>(std::min<std::uint64_t>(view.rows, 1 << 20));
  std::vector<maxwell::SourceRow> order;
  for (std::size_t r = 0; r < rows; ++r) order.push_back({0, static_cast<std::uint32_t>(r)});
  return OctetMatrix::pack(format, Span<const TensorView>(tensors), order, pool);
}

// Root of the mean squared difference of rows, relative to their size; NaN when there is one.
double relative_error(const Tensor& tensor, const OctetMatrix& m) {
  double errors = 0, squares = 0;
  std::vector<float> expected(tensor.columns), got(tensor.columns);
  for (std::size_t r = 0; r < tensor.rows; ++r) {
    dequantise_row(tensor.view(), r, expected);
    std::fill(got.begin(), got.end(), kNaN);
    m.unpack_row(r, got.data());
    for (std::size_t c = 0; c < tensor.columns; ++c) {
      const double a = expected[c], b = got[c];
      errors += (a - b) * (a - b);
      squares += a * a;
    }
  }
  REQUIRE(squares > 0);
  return std::sqrt(errors / squares);
}

bool promises_exact(TensorType type, Format format) {
  switch (format) {
    case Format::kF16:
      return type == TensorType::kF16;
    case Format::kW8:
      return type == TensorType::kQ8_0 || type == TensorType::kQ5_0 || type == TensorType::kQ4_0;
    case Format::kW4:
      return type == TensorType::kQ4_0;
    case Format::kW4Minimum:
      return type == TensorType::kQ4_0 || type == TensorType::kQ4_1;
  }
  return false;
}

// Of values that are uniform in a range: half a step over the range's deviation, and some room.
double most_error(TensorType type, Format format) {
  if (promises_exact(type, format)) return 0.0;
  switch (format) {
    case Format::kF16:
      return 1.0 / 2048;
    case Format::kW8:
      return 0.008;
    case Format::kW4:
      return 0.13;
    case Format::kW4Minimum:
      return type == TensorType::kQ4_K ? 1.0 / 1024 : 0.09;
  }
  return 0.0;
}

}  // namespace

TEST_CASE("an octet matrix holds the rows of its tensor") {
  for (const Format format : kFormats) {
    for (const TensorType type : kTypes) {
      for (const std::uint64_t rows : {1u, 8u, 37u}) {
        const Tensor tensor = plain_tensor(type, rows, 512, 21);
        const OctetMatrix m = pack(format, tensor.view()).value();
        CAPTURE(static_cast<int>(format), name_of(type), rows);
        CHECK(m.rows() == rows);
        CHECK(m.columns() == 512);
        CHECK(m.octets() == (rows + 7) / 8);
        CHECK(m.quants().size() == m.octets() * m.groups() * octet::group_bytes(format));
        CHECK(m.scales().size() == m.octets() * m.groups() * octet::scale_bytes(format));
        const double error = relative_error(tensor, m);
        CHECK(error <= most_error(type, format));
        if (promises_exact(type, format)) CHECK(m.multiplier() == 1.0f);
      }
    }
  }
}

TEST_CASE("rows past the last are zero") {
  const Tensor tensor = plain_tensor(TensorType::kQ4_1, 9, 64, 3);
  const OctetMatrix m = pack(Format::kW4Minimum, tensor.view()).value();
  const std::size_t half = m.quants().size() / 2;
  for (std::size_t i = half; i < m.quants().size(); ++i) {
    if (i / 16 % 8 != 0) REQUIRE(m.quants()[i] == 0);
  }
  for (std::size_t i = m.scales().size() / 2; i < m.scales().size(); ++i) {
    if (i / 4 % 8 != 0) REQUIRE(m.scales()[i] == 0);
  }
}

TEST_CASE("rows of several matrices are stacked or taken by turns") {
  ThreadPool pool(1);
  const Tensor a = plain_tensor(TensorType::kQ4_1, 5, 256, 1);
  const Tensor b = plain_tensor(TensorType::kQ6_K, 5, 256, 2);
  const TensorView tensors[] = {a.view(), b.view()};
  const Span<const TensorView> both(tensors);
  const auto stacked = maxwell::stacked_rows(both), turns = maxwell::alternating_rows(both);
  REQUIRE(stacked.size() == 10);
  REQUIRE(turns.size() == 10);
  const OctetMatrix m = OctetMatrix::pack(Format::kF16, both, stacked, pool).value();
  const OctetMatrix n = OctetMatrix::pack(Format::kF16, both, turns, pool).value();
  std::vector<float> of_m(256), of_n(256), expected(256);
  for (std::size_t r = 0; r < 5; ++r) {
    for (std::size_t t = 0; t < 2; ++t) {
      m.unpack_row(5 * t + r, of_m.data());
      n.unpack_row(2 * r + t, of_n.data());
      CHECK(same_bits(of_m.data(), of_n.data(), 256));
      dequantise_row(tensors[t], r, expected);
      for (std::size_t c = 0; c < 256; ++c) {
        REQUIRE(of_m[c] == Approx(expected[c]).epsilon(1.0 / 2048).margin(1e-6));
      }
    }
  }
}

TEST_CASE("rows of Q and K are paired, V's are not") {
  TensorView q, k, v;
  q.rows = 128;
  k.rows = v.rows = 64;
  const TensorView qkv[] = {q, k, v};
  const auto rows_of = [&](int pairs, bool is_split) {
    std::vector<std::uint32_t> rows;
    for (const auto& row : maxwell::paired_rows(Span<const TensorView>(qkv), 64, pairs, is_split)) {
      REQUIRE(row.tensor == (rows.size() < 128 ? 0u : rows.size() < 192 ? 1u : 2u));
      rows.push_back(row.row);
    }
    REQUIRE(rows.size() == 256);
    return rows;
  };
  const auto split = rows_of(32, true), partial = rows_of(8, true), natural = rows_of(32, false);
  CHECK((split[0] == 0 && split[1] == 32 && split[2] == 1 && split[63] == 63));
  CHECK((split[64] == 64 && split[65] == 96 && split[129] == 32));
  CHECK((split[192] == 0 && split[193] == 1));
  CHECK((partial[1] == 8 && partial[14] == 7 && partial[15] == 15 && partial[16] == 16));
  CHECK((natural[1] == 1 && natural[130] == 2));
}

TEST_CASE("Q8_0's -128 is quantised anew, alone") {
  Tensor tensor = plain_tensor(TensorType::kQ8_0, 2, 64, 5);
  tensor.bytes[2 + 7] = 0x80;
  const OctetMatrix m = pack(Format::kW8, tensor.view()).value();
  std::vector<float> got(64), expected(64);
  m.unpack_row(0, got.data());
  dequantise_row(tensor.view(), 0, expected);
  CHECK(got[7] == Approx(expected[7]).epsilon(0.001));
  CHECK(same_bits(got.data() + 32, expected.data() + 32, 32));
  CHECK(m.multiplier() == 1.0f);
}

TEST_CASE("values out of F16's range keep their size") {
  for (const Format format : kFormats) {
    for (const float size : {1e30f, 1e-30f, 1e6f, 1e-5f, 1.0f}) {
      Tensor tensor{TensorType::kF32, 3, 64, {}};
      for (const float v : random_floats(3 * 64, 3, size)) {
        const std::uint8_t* p = reinterpret_cast<const std::uint8_t*>(&v);
        tensor.bytes.insert(tensor.bytes.end(), p, p + 4);
      }
      const OctetMatrix m = pack(format, tensor.view()).value();
      CAPTURE(static_cast<int>(format), size);
      CHECK(relative_error(tensor, m) <= most_error(TensorType::kF32, format));
    }
    // A minimum eight times a scale that is itself F16's largest.
    Tensor large = plain_tensor(TensorType::kQ4_0, 1, 32, 9);
    put_half(large.bytes.data(), 65504.0f);
    CHECK(relative_error(large, pack(format, large.view()).value()) <= 1e-3);
    Tensor zero = plain_tensor(TensorType::kQ4_0, 1, 32, 9);
    put_half(zero.bytes.data(), 0.0f);
    std::vector<float> got(32, kNaN);
    pack(format, zero.view()).value().unpack_row(0, got.data());
    for (const float v : got) CHECK(v == 0.0f);
  }
}

TEST_CASE("chains of products stay in F16's range") {
  for (const float largest : {65504.0f, 100.0f, 1.0f, 1e-4f}) {
    Tensor tensor{TensorType::kF16, 1, 32, std::vector<std::uint8_t>(64)};
    for (std::size_t i = 0; i < 32; ++i) put_half(tensor.bytes.data() + 2 * i, largest);
    const OctetMatrix m = pack(Format::kF16, tensor.view()).value();
    CAPTURE(largest, m.input_exponent());
    CHECK(m.multiplier() == 1.0f);
    CHECK(8 * static_cast<double>(largest) * std::ldexp(1.0, m.input_exponent()) <= 32768.0);
    CHECK((m.input_exponent() == 15 ||
           8 * static_cast<double>(largest) * std::ldexp(1.0, m.input_exponent()) > 8192.0));
  }
}

TEST_CASE("matrices that the FP16 path cannot multiply are refused") {
  const auto message = [](const TensorView& view) {
    const auto packed = pack(Format::kW4, view);
    REQUIRE_FALSE(packed.ok());
    CHECK(packed.error().code == ErrorCode::kInvalidArgument);
    return packed.error().message;
  };
  Tensor tensor = random_tensor(TensorType::kQ4_1, 20, 64, 1);
  const std::size_t row = 2 * block_bytes(TensorType::kQ4_1);
  put_half(tensor.bytes.data() + 17 * row, INFINITY);
  put_half(tensor.bytes.data() + 18 * row + 2, kNaN);
  CHECK(message(tensor.view()).find("row 17 ") != std::string::npos);

  const Tensor narrow = random_tensor(TensorType::kF32, 4, 48, 1);
  CHECK(message(narrow.view()).find("multiple of 32") != std::string::npos);

  const Tensor good = random_tensor(TensorType::kQ8_0, 4, 64, 1);
  TensorView view = good.view();
  view.rows = 5;
  message(view);
  view.rows = std::uint64_t{1} << 62;
  message(view);
  view.rows = 0;
  message(view);
  view = good.view();
  view.columns = std::uint64_t{1} << 63;
  message(view);

  ThreadPool pool(1);
  const Tensor wide = random_tensor(TensorType::kQ8_0, 4, 96, 1);
  const TensorView unlike[] = {good.view(), wide.view()};
  CHECK_FALSE(OctetMatrix::pack(Format::kW8, Span<const TensorView>(unlike),
                                maxwell::stacked_rows(Span<const TensorView>(unlike)), pool)
                  .ok());
  const TensorView one[] = {good.view()};
  for (const maxwell::SourceRow wrong : {maxwell::SourceRow{0, 4}, maxwell::SourceRow{1, 0}}) {
    const std::vector<maxwell::SourceRow> rows = {wrong};
    CHECK_FALSE(OctetMatrix::pack(Format::kW8, Span<const TensorView>(one), rows, pool).ok());
  }
}
