// The matrix-vector kernels of path::MaxwellFp16 under emulation: the bits of their CPU model, and
// within the derived tolerance of F64.
#include "src/compute/maxwell/gemv.hpp"

#include <cmath>
#include <cstring>

#include <catch2/catch.hpp>

#include "tests/kernels/gemv_fixture.hpp"
#include "tests/kernels/gemv_model.hpp"

using namespace kvferry;
using namespace gemv_fixture;
using cpu_fixture::random_floats;
using maxwell::OctetMatrix;

namespace {

struct Shape {
  std::size_t rows, columns;
};
// Every tail of an octet, of four groups and of four times four; more octets than warps.
const Shape kShapes[] = {{9, 32},    {10, 64},  {19, 96},   {4, 576},
                         {13, 1536}, {6, 2080}, {23, 2048}, {259, 128}};

}  // namespace

TEST_CASE("norm, product and bias have the model's bits") {
  for (const Format format : kFormats) {
    for (const Shape& shape : kShapes) {
      for (int batch = 1; batch <= 4; ++batch) {
        CAPTURE(static_cast<int>(format), shape.rows, shape.columns, batch);
        const OctetMatrix matrix = random_matrix(format, shape.rows, shape.columns, 11);
        const DeviceMatrix device(matrix);
        const Rows x(batch, shape.columns, shape.columns + 4, 5);
        const std::vector<float> weight = random_floats(shape.columns, 3);
        const std::vector<float> bias = random_floats(shape.rows, 4);
        const bool has_bias = batch % 2 == 0;
        const std::size_t stride = shape.rows + 3;
        const DeviceArray<float> x_device(x.values), weight_device(weight), bias_device(bias);
        const DeviceArray<float> out(batch * stride);

        const kernels::NormInput input = {x_device.data(), static_cast<int>(x.stride),
                                          weight_device.data(), 1e-5f};
        const kernels::StoreOutput output = {out.data(), static_cast<int>(stride),
                                             has_bias ? bias_device.data() : nullptr};
        const kernels::LaunchStatus status =
            kernels::launch_gemv(device.view, input, output, batch, kNano, nullptr);
        REQUIRE(status.ok());

        std::vector<std::vector<float>> expected;
        for (int b = 0; b < batch; ++b) {
          const std::vector<float> normed = gemv_model::normed(x.row(b), weight, 1e-5f);
          expected.push_back(gemv_model::product(matrix, normed));
          const gemv_model::Reference reference = gemv_model::reference(matrix, normed);
          double squares = 0.0, errors = 0.0;
          for (std::size_t r = 0; r < shape.rows; ++r) {
            const double error = std::fabs(reference.values[r] - expected.back()[r]);
            CHECK(error <= reference.tolerances[r]);
            squares += reference.values[r] * reference.values[r];
            errors += error * error;
            if (has_bias) expected.back()[r] += bias[r];
          }
          CHECK(squares > 0.0);
          CHECK(std::sqrt(errors / squares) <= 3e-3);
        }
        CHECK(differences(out.read(), expected, stride) == 0);
      }
    }
  }
}

TEST_CASE("a product is added to the residual stream") {
  for (const Format format : kFormats) {
    for (const Shape& shape : kShapes) {
      for (int batch = 1; batch <= 4; ++batch) {
        CAPTURE(static_cast<int>(format), shape.rows, shape.columns, batch);
        const OctetMatrix matrix = random_matrix(format, shape.rows, shape.columns, 12);
        const DeviceMatrix device(matrix);
        const Rows x(batch, shape.columns, shape.columns, 6);
        const Rows hidden(batch, shape.rows, shape.rows + 1, 7);
        const DeviceArray<float> x_device(x.values), hidden_device(hidden.values);

        const kernels::PlainInput input = {x_device.data(), static_cast<int>(x.stride)};
        const kernels::AddResidual output = {hidden_device.data(), static_cast<int>(hidden.stride)};
        REQUIRE(kernels::launch_gemv(device.view, input, output, batch, kNano, nullptr).ok());

        std::vector<std::vector<float>> expected;
        for (int b = 0; b < batch; ++b) {
          expected.push_back(gemv_model::product(matrix, x.row(b)));
          const std::vector<float> before = hidden.row(b);
          for (std::size_t r = 0; r < shape.rows; ++r)
            expected.back()[r] = before[r] + expected.back()[r];
        }
        CHECK(differences(hidden_device.read(), expected, hidden.stride) == 0);
      }
    }
  }
}

TEST_CASE("gate and up rows by turns give their SwiGLU") {
  for (const Format format : kFormats) {
    for (const Shape& shape : kShapes) {
      for (int batch = 1; batch <= 4; ++batch) {
        const std::size_t rows = 2 * shape.rows;
        CAPTURE(static_cast<int>(format), rows, shape.columns, batch);
        const OctetMatrix matrix = random_matrix(format, rows, shape.columns, 13);
        const DeviceMatrix device(matrix);
        const Rows x(batch, shape.columns, shape.columns, 8);
        const std::vector<float> weight = random_floats(shape.columns, 9);
        const std::size_t stride = shape.rows + 2;
        const DeviceArray<float> x_device(x.values), weight_device(weight);
        const DeviceArray<float> out(batch * stride);

        const kernels::NormInput input = {x_device.data(), static_cast<int>(x.stride),
                                          weight_device.data(), 1e-6f};
        const kernels::SwiGlu output = {out.data(), static_cast<int>(stride)};
        REQUIRE(kernels::launch_gemv(device.view, input, output, batch, kNano, nullptr).ok());

        std::vector<std::vector<float>> expected;
        for (int b = 0; b < batch; ++b) {
          const std::vector<float> y =
              gemv_model::product(matrix, gemv_model::normed(x.row(b), weight, 1e-6f));
          expected.emplace_back();
          for (std::size_t r = 0; r < rows; r += 2) {
            expected.back().push_back(gemv_model::swiglu(y[r], y[r + 1]));
          }
        }
        CHECK(differences(out.read(), expected, stride) == 0);
      }
    }
  }
}

TEST_CASE("SwiGLU is that of F64") {
  for (float gate = -120.0f; gate < 120.0f; gate += 0.37f) {
    const double g = gate;
    const double expected = g / (1.0 + std::exp(-g)) * 1.5;
    CAPTURE(gate);
    CHECK(std::fabs(static_cast<double>(gemv_model::swiglu(gate, 1.5f)) - expected) <=
          std::fabs(expected) * 4e-7 + 1e-34);
  }
  CHECK(std::isnan(gemv_model::swiglu(kNaN, 1.0f)));
}

TEST_CASE("inputs of every size: zero, tiny, huge, infinite, NaN") {
  for (const Format format : kFormats) {
    const OctetMatrix matrix = random_matrix(format, 9, 128, 14);
    const DeviceMatrix device(matrix);
    for (const float value : {0.0f, 1e-42f, 1e-30f, 1e30f, 1e33f, 3e38f, INFINITY, kNaN}) {
      CAPTURE(static_cast<int>(format), value);
      std::vector<float> x(128, 0.25f);
      x[37] = value;
      const DeviceArray<float> x_device(x);
      const DeviceArray<float> hidden(std::vector<float>(9, 0.0f));
      REQUIRE(kernels::launch_gemv(device.view, kernels::PlainInput{x_device.data(), 128},
                                   kernels::AddResidual{hidden.data(), 9}, 1, kNano, nullptr)
                  .ok());
      const std::vector<float> expected = gemv_model::product(matrix, x);
      const std::vector<float> got = hidden.read();
      for (std::size_t r = 0; r < 9; ++r) {
        CHECK(std::isfinite(got[r]) == (std::fabs(value) < 2e31f));
        if (std::isfinite(got[r])) CHECK(got[r] == 0.0f + expected[r]);
        CHECK(std::isnan(got[r]) == std::isnan(expected[r]));
      }
    }
  }
}

TEST_CASE("F16 weights of every size") {
  for (const float largest : {65504.0f, 1000.0f, 6e-5f, 1e-7f}) {
    auto tensor = cpu_fixture::random_tensor(TensorType::kF16, 9, 128, 18);
    for (std::size_t i = 0; i < 9 * 128; ++i) {
      const float part = static_cast<float>(i * 37 % 101) / 50.0f - 1.0f;  // [-1, 1]
      cpu_fixture::put_half(tensor.bytes.data() + 2 * i, largest * part);
    }
    const TensorView tensors[] = {tensor.view()};
    const Span<const TensorView> views(tensors);
    ThreadPool pool(1);
    const OctetMatrix matrix =
        OctetMatrix::pack(Format::kF16, views, maxwell::stacked_rows(views), pool).value();
    const DeviceMatrix device(matrix);
    const std::vector<float> x = random_floats(128, 19);
    const DeviceArray<float> x_device(x), hidden(std::vector<float>(9, 0.0f));
    REQUIRE(kernels::launch_gemv(device.view, kernels::PlainInput{x_device.data(), 128},
                                 kernels::AddResidual{hidden.data(), 9}, 1, kNano, nullptr)
                .ok());
    const std::vector<float> expected = gemv_model::product(matrix, x), got = hidden.read();
    const gemv_model::Reference reference = gemv_model::reference(matrix, x);
    CAPTURE(largest, matrix.input_exponent());
    for (std::size_t r = 0; r < 9; ++r) {
      CHECK(got[r] == 0.0f + expected[r]);
      CHECK(std::fabs(static_cast<double>(got[r]) - reference.values[r]) <=
            reference.tolerances[r]);
    }
  }
}

TEST_CASE("four long vectors take two launches") {
  const std::size_t columns = 5632;
  CHECK(kernels::gemv_vectors(2048) == 4);
  CHECK(kernels::gemv_vectors(5632) == 3);
  CHECK(kernels::gemv_vectors(1 << 20) == 0);
  const OctetMatrix matrix = random_matrix(Format::kW4Minimum, 8, columns, 15);
  const DeviceMatrix device(matrix);
  const Rows x(4, columns, columns, 16);
  const DeviceArray<float> x_device(x.values), hidden(std::vector<float>(4 * 8, 0.0f));
  REQUIRE(kernels::launch_gemv(device.view,
                               kernels::PlainInput{x_device.data(), static_cast<int>(columns)},
                               kernels::AddResidual{hidden.data(), 8}, 4, kNano, nullptr)
              .ok());
  std::vector<std::vector<float>> expected;
  for (int b = 0; b < 4; ++b) {
    expected.push_back(gemv_model::product(matrix, x.row(b)));
    for (float& v : expected.back()) v += 0.0f;
  }
  CHECK(differences(hidden.read(), expected, 8) == 0);
}

TEST_CASE("products that cannot be are refused before a launch") {
  const OctetMatrix matrix = random_matrix(Format::kW8, 10, 64, 17);
  const DeviceMatrix device(matrix);
  const DeviceArray<float> x(4 * 64), out(4 * 10);
  const kernels::NormInput input = {x.data(), 64, x.data(), 1e-5f};
  const kernels::StoreOutput output = {out.data(), 10, nullptr};
  const auto refuses = [&](const kernels::GemvMatrix& m, const kernels::NormInput& in,
                           const kernels::StoreOutput& o, int batch,
                           const kernels::GemvDevice& d = kNano) {
    const kernels::LaunchStatus status = kernels::launch_gemv(m, in, o, batch, d, nullptr);
    return !status.ok() && status.error().code == ErrorCode::kInvalidArgument;
  };
  CHECK_FALSE(refuses(device.view, input, output, 1));
  CHECK(refuses(device.view, input, output, 0));
  CHECK(refuses(device.view, input, output, 5));
  CHECK(refuses(device.view, input, output, 1, {0, 65536}));
  kernels::GemvMatrix m = device.view;
  m.columns = 48;
  CHECK(refuses(m, input, output, 1));
  m = device.view;
  m.columns = 1 << 20;
  CHECK(refuses(m, input, output, 1));
  m = device.view;
  m.rows = 0;
  CHECK(refuses(m, input, output, 1));
  m = device.view;
  m.quants = nullptr;
  CHECK(refuses(m, input, output, 1));
  m = device.view;
  m.scales = static_cast<const std::uint8_t*>(device.view.scales) + 2;
  CHECK(refuses(m, input, output, 1));
  m = device.view;
  m.input_exponent = 16;
  CHECK(refuses(m, input, output, 1));
  m.input_exponent = -5;
  CHECK(refuses(m, input, output, 1));
  m = device.view;
  m.rows = 1 << 30;
  CHECK(refuses(m, input, output, 1));
  kernels::NormInput in = input;
  in.x = x.data() + 1;
  CHECK(refuses(device.view, in, output, 1));
  in = input;
  in.stride = 66;
  CHECK(refuses(device.view, in, output, 1));
  in = input;
  in.stride = 60;
  CHECK(refuses(device.view, in, output, 1));
  in = input;
  in.weight = nullptr;
  CHECK(refuses(device.view, in, output, 1));
  CHECK(refuses(device.view, input, {out.data(), 9, nullptr}, 1));
  CHECK(refuses(device.view, input, {nullptr, 10, nullptr}, 1));
  m = device.view;
  m.rows = 9;
  const kernels::LaunchStatus odd =
      kernels::launch_gemv(m, input, kernels::SwiGlu{out.data(), 10}, 1, kNano, nullptr);
  REQUIRE_FALSE(odd.ok());
  CHECK(odd.error().code == ErrorCode::kInvalidArgument);
}
