// Products of packed weights and quantised activations, on every instruction set.
#include "kvferry/compute/cpu/product.hpp"
#include "kvferry/compute/dequantise.hpp"

#include "cpu_fixture.hpp"

using namespace kvferry;
using namespace cpu_fixture;
using cpu::ActivationFormat;
using cpu::WeightFormat;

namespace {

constexpr TensorType kTypes[] = {TensorType::kF32,  TensorType::kF16,  TensorType::kBF16,
                                 TensorType::kQ4_0, TensorType::kQ4_1, TensorType::kQ5_0,
                                 TensorType::kQ5_1, TensorType::kQ8_0, TensorType::kQ4_K,
                                 TensorType::kQ5_K, TensorType::kQ6_K};

// What the activation format makes of a row, by its definition, in F64.
std::vector<double> rounded(const float* row, std::size_t columns, ActivationFormat format) {
  std::vector<double> out(row, row + columns);
  if (format == ActivationFormat::kF32) return out;
  const float largest = format == ActivationFormat::kInt16 ? 32639.0f : 127.0f;
  for (std::size_t g = 0; g < columns; g += 32) {
    float magnitude = 0;
    for (std::size_t i = 0; i < 32; ++i) magnitude = std::max(magnitude, std::fabs(row[g + i]));
    const double scale = magnitude < std::ldexp(1.0, -100) ? 0.0 : magnitude / largest;
    for (std::size_t i = 0; i < 32; ++i) {
      out[g + i] = scale == 0.0 ? 0.0 : scale * std::nearbyint(row[g + i] * (largest / magnitude));
    }
  }
  return out;
}

struct Case {
  std::size_t outputs;
  std::size_t inputs;
  std::size_t rows;
};

// max |got - reference| over the sum of |terms|, the natural unit of a dot product's error.
double worst_error(const Tensor& tensor, const std::vector<float>& x, std::size_t rows,
                   ActivationFormat format, const std::vector<float>& got, std::size_t stride) {
  double worst = 0;
  std::vector<std::vector<double>> inputs;
  for (std::size_t r = 0; r < rows; ++r) {
    inputs.push_back(rounded(x.data() + r * tensor.columns, tensor.columns, format));
  }
  std::vector<float> weights(tensor.columns);
  for (std::size_t o = 0; o < tensor.rows; ++o) {
    dequantise_row(tensor.view(), o, weights);
    for (std::size_t r = 0; r < rows; ++r) {
      double sum = 0, magnitude = 1e-30;
      for (std::size_t i = 0; i < tensor.columns; ++i) {
        sum += inputs[r][i] * weights[i];
        magnitude += std::fabs(inputs[r][i] * weights[i]);
      }
      const double error = std::fabs(sum - static_cast<double>(got[r * stride + o])) / magnitude;
      if (!(error <= worst)) worst = error;
      if (worst != worst) return worst;
    }
  }
  return worst;
}

std::vector<float> product_of(const cpu::Kernels& kernels, ThreadPool& pool,
                              const cpu::PackedMatrix& matrix, const std::vector<float>& x,
                              std::size_t rows, ActivationFormat format, std::size_t stride) {
  cpu::Activations input;
  input.resize(rows, matrix.columns(), format);
  cpu::quantize(kernels, pool, x.data(), matrix.columns(), input);
  std::vector<float> out(rows * stride, kNaN);
  const cpu::Product product{&matrix, &input, out.data(), stride};
  cpu::multiply(kernels, pool, Span<const cpu::Product>(&product, 1));
  return out;
}

}  // namespace

TEST_CASE("products equal a plain sum over dequantised weights and rounded inputs") {
  const Case cases[] = {{1, 256, 1}, {16, 512, 3}, {33, 256, 8}, {47, 768, 13}, {64, 256, 21}};
  ThreadPool pool(2);
  for_every_isa([&](const cpu::Kernels& kernels) {
    std::uint32_t seed = 1;
    for (const TensorType type : kTypes) {
      for (const Case& c : cases) {
        const Tensor tensor = random_tensor(type, c.outputs, c.inputs, ++seed);
        const cpu::PackedMatrix matrix = cpu::PackedMatrix::pack(tensor.view(), pool).value();
        const std::vector<float> x = random_floats(c.rows * c.inputs, ++seed);
        for (const ActivationFormat integers :
             {ActivationFormat::kInt8, ActivationFormat::kInt16}) {
          const ActivationFormat format = activation_format_for(matrix.format(), integers);
          const std::size_t stride = c.outputs + 3;
          const std::vector<float> out =
              product_of(kernels, pool, matrix, x, c.rows, format, stride);
          CAPTURE(name_of(type), c.outputs, c.inputs, c.rows, static_cast<int>(format));
          // F32 sums of a few dozen groups; scales rounded to 11 bits where the type needs it.
          const bool exact = type != TensorType::kF32 && type != TensorType::kQ4_K &&
                             type != TensorType::kQ5_K && type != TensorType::kQ6_K;
          CHECK(worst_error(tensor, x, c.rows, format, out, stride) <= (exact ? 1e-6 : 2.5e-4));
          for (std::size_t r = 0; r < c.rows; ++r) {
            for (std::size_t i = c.outputs; i < stride; ++i) {
              CHECK(std::isnan(out[r * stride + i]));
            }
          }
        }
      }
    }
  });
}

TEST_CASE("products of F16 weights take any number of inputs") {
  ThreadPool pool(2);
  for_every_isa([&](const cpu::Kernels& kernels) {
    for (const std::size_t inputs : {1, 2, 3, 31, 33, 50, 191}) {
      const Tensor tensor = random_tensor(TensorType::kF16, 19, inputs, 77);
      const cpu::PackedMatrix matrix = cpu::PackedMatrix::pack(tensor.view(), pool).value();
      const std::vector<float> x = random_floats(11 * inputs, 5);
      const std::vector<float> out =
          product_of(kernels, pool, matrix, x, 11, ActivationFormat::kF32, 19);
      CAPTURE(inputs);
      CHECK(worst_error(tensor, x, 11, ActivationFormat::kF32, out, 19) <= 1e-6);
    }
  });
}

TEST_CASE("whole-number sums are exact at the extremes") {
  // Scale 1, inputs ±127 (one term) or ±32639 (two terms): every product and sum is a whole number.
  ThreadPool pool(1);
  for_every_isa([&](const cpu::Kernels& kernels) {
    for (const TensorType type : {TensorType::kQ8_0, TensorType::kQ4_1, TensorType::kQ5_1}) {
      Tensor tensor = random_tensor(type, 16, 32, 9);
      const std::size_t block = block_bytes(type);
      for (std::size_t r = 0; r < 16; ++r) {
        std::uint8_t* p = tensor.bytes.data() + r * block;
        put_half(p, 1.0f);
        if (type != TensorType::kQ8_0) put_half(p + 2, 0.0f);
        const std::size_t header = type == TensorType::kQ8_0 ? 2 : 4;
        // Rows: all lowest, all highest, alternating, random.
        for (std::size_t i = header; i < block; ++i) {
          if (r == 0) p[i] = type == TensorType::kQ8_0 ? 0x80 : 0x00;
          if (r == 1) p[i] = type == TensorType::kQ8_0 ? 0x7f : 0xff;
          if (r == 2) p[i] = i % 2 ? 0x80 : 0x7f;
        }
      }
      const cpu::PackedMatrix matrix = cpu::PackedMatrix::pack(tensor.view(), pool).value();
      for (const ActivationFormat format : {ActivationFormat::kInt8, ActivationFormat::kInt16}) {
        const float largest = format == ActivationFormat::kInt8 ? 127.0f : 32639.0f;
        const float low_byte = format == ActivationFormat::kInt8 ? 1.0f : 128.0f;
        std::vector<float> x;
        for (int row = 0; row < 4; ++row) {
          for (int i = 0; i < 32; ++i) {
            const bool negative = row == 1 || (row == 2 && i % 2) || (row == 3 && i % 3);
            const float magnitude = row == 3 && i > 0 ? low_byte : largest;
            x.push_back(negative ? -magnitude : magnitude);
          }
        }
        const std::vector<float> out = product_of(kernels, pool, matrix, x, 4, format, 16);
        std::vector<float> weights(32);
        for (std::size_t o = 0; o < 16; ++o) {
          dequantise_row(tensor.view(), o, weights);
          for (std::size_t r = 0; r < 4; ++r) {
            std::int64_t sum = 0;
            for (std::size_t i = 0; i < 32; ++i) {
              sum +=
                  static_cast<std::int64_t>(weights[i]) * static_cast<std::int64_t>(x[r * 32 + i]);
            }
            CAPTURE(name_of(type), o, r, static_cast<int>(format));
            CHECK(out[r * 16 + o] == static_cast<float>(sum));
          }
        }
      }
    }
  });
}

TEST_CASE("a row's result does not depend on the batch or the threads") {
  for_every_isa([&](const cpu::Kernels& kernels) {
    for (const TensorType type : {TensorType::kF16, TensorType::kQ4_0, TensorType::kQ4_1,
                                  TensorType::kQ5_1, TensorType::kQ6_K, TensorType::kQ8_0}) {
      const std::size_t inputs = 512, outputs = 75, rows = 64;
      const Tensor tensor = random_tensor(type, outputs, inputs, 4);
      const std::vector<float> x = random_floats(rows * inputs, 6);
      for (const ActivationFormat integers : {ActivationFormat::kInt8, ActivationFormat::kInt16}) {
        std::vector<float> expected;
        for (const std::size_t threads : {1, 2, 3}) {
          ThreadPool pool(threads);
          const cpu::PackedMatrix matrix = cpu::PackedMatrix::pack(tensor.view(), pool).value();
          const ActivationFormat format = activation_format_for(matrix.format(), integers);
          for (const std::size_t batch : {1, 2, 7, 64}) {
            std::vector<float> all;
            for (std::size_t first = 0; first < rows; first += batch) {
              const std::size_t n = std::min(batch, rows - first);
              const std::vector<float> part(
                  x.begin() + static_cast<std::ptrdiff_t>(first * inputs),
                  x.begin() + static_cast<std::ptrdiff_t>((first + n) * inputs));
              const std::vector<float> out =
                  product_of(kernels, pool, matrix, part, n, format, outputs);
              all.insert(all.end(), out.begin(), out.end());
            }
            if (expected.empty()) expected = all;
            CAPTURE(name_of(type), threads, batch);
            CHECK(same_bits(all.data(), expected.data(), rows * outputs));
          }
        }
      }
    }
  });
}

TEST_CASE("several products in one region, with bias and a residual sum") {
  ThreadPool pool(2);
  for_every_isa([&](const cpu::Kernels& kernels) {
    const Tensor a = random_tensor(TensorType::kQ4_1, 40, 64, 1);
    const Tensor b = random_tensor(TensorType::kQ8_0, 17, 64, 2);
    const cpu::PackedMatrix pa = cpu::PackedMatrix::pack(a.view(), pool).value();
    const cpu::PackedMatrix pb = cpu::PackedMatrix::pack(b.view(), pool).value();
    const std::size_t rows = 200;  // several blocks of tiles
    const std::vector<float> x = random_floats(rows * 64, 3);
    const std::vector<float> alone_a =
        product_of(kernels, pool, pa, x, rows, ActivationFormat::kInt8, 40);
    const std::vector<float> alone_b =
        product_of(kernels, pool, pb, x, rows, ActivationFormat::kInt8, 17);
    cpu::Activations input;
    input.resize(rows, 64, ActivationFormat::kInt8);
    cpu::quantize(kernels, pool, x.data(), 64, input);
    const std::vector<float> bias = random_floats(40, 4), residual = random_floats(rows * 17, 5);
    std::vector<float> out_a(rows * 40, kNaN), out_b = residual;
    const cpu::Product both[] = {{&pa, &input, out_a.data(), 40, bias.data(), false},
                                 {&pb, &input, out_b.data(), 17, nullptr, true}};
    cpu::multiply(kernels, pool, both);
    bool right = true;
    for (std::size_t i = 0; i < rows * 40; ++i) right &= out_a[i] == alone_a[i] + bias[i % 40];
    for (std::size_t i = 0; i < rows * 17; ++i) right &= out_b[i] == residual[i] + alone_b[i];
    CHECK(right);
  });
}

TEST_CASE("inputs of zero, of tiny and of non-finite values") {
  ThreadPool pool(1);
  for_every_isa([&](const cpu::Kernels& kernels) {
    const Tensor tensor = random_tensor(TensorType::kQ4_1, 16, 64, 12);
    const cpu::PackedMatrix matrix = cpu::PackedMatrix::pack(tensor.view(), pool).value();
    for (const ActivationFormat format : {ActivationFormat::kInt8, ActivationFormat::kInt16}) {
      for (const float tiny : {0.0f, 1e-45f, 1e-38f, 7e-31f}) {
        const std::vector<float> x(64, tiny);
        for (const float y : product_of(kernels, pool, matrix, x, 1, format, 16)) CHECK(y == 0.0f);
      }
      for (const float bad : {kNaN, INFINITY, -INFINITY}) {
        for (const std::size_t at : {0, 15, 16, 31, 40, 63}) {
          std::vector<float> x(64, 1.0f);
          x[at] = bad;
          for (const float y : product_of(kernels, pool, matrix, x, 1, format, 16)) {
            CHECK(std::isnan(y));
          }
        }
      }
      std::vector<float> x = random_floats(64, 8, 1e37f);
      const std::vector<float> out = product_of(kernels, pool, matrix, x, 1, format, 16);
      CHECK(worst_error(tensor, x, 1, format, out, 16) <= 1e-6);
    }
  });
}
