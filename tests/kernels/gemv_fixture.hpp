// What the tests of the matrix-vector kernels share: matrices, input rows, comparison.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <vector>

#include "kvferry/compute/device/gemv.hpp"
#include "kvferry/compute/maxwell/octet_matrix.hpp"

#include "tests/compute/cpu_fixture.hpp"
#include "tests/kernels/device_array.hpp"

namespace gemv_fixture {

using cpu_fixture::kNaN;
using device_test::DeviceArray;
using kvferry::octet::Format;

const Format kFormats[] = {Format::kF16, Format::kW8, Format::kW4, Format::kW4Minimum};
const kvferry::kernels::GemvDevice kNano = {1, 64 * 1024};

// The type of file whose weights the format holds exactly.
inline kvferry::TensorType type_of(Format format) {
  switch (format) {
    case Format::kF16:
      return kvferry::TensorType::kF16;
    case Format::kW8:
      return kvferry::TensorType::kQ8_0;
    case Format::kW4:
      return kvferry::TensorType::kQ4_0;
    case Format::kW4Minimum:
      return kvferry::TensorType::kQ4_1;
  }
  return kvferry::TensorType::kF32;
}

inline kvferry::maxwell::OctetMatrix random_matrix(Format format, std::size_t rows,
                                                   std::size_t columns, std::uint32_t seed) {
  const auto tensor = cpu_fixture::random_tensor(type_of(format), rows, columns, seed);
  const kvferry::TensorView tensors[] = {tensor.view()};
  const kvferry::Span<const kvferry::TensorView> views(tensors);
  kvferry::ThreadPool pool(1);
  return kvferry::maxwell::OctetMatrix::pack(format, views, kvferry::maxwell::stacked_rows(views),
                                             pool)
      .value();
}

// A matrix in device memory.
struct DeviceMatrix {
  explicit DeviceMatrix(const kvferry::maxwell::OctetMatrix& m)
      : quants(m.quants()),
        scales(m.scales().empty() ? m.quants().first(1) : m.scales()),
        view{m.format(),
             reinterpret_cast<const kvferry::octet::Part*>(quants.data()),
             m.scales().empty() ? nullptr : scales.data(),
             static_cast<int>(m.rows()),
             static_cast<int>(m.columns()),
             m.input_exponent(),
             m.multiplier()} {}
  DeviceArray<std::uint8_t> quants, scales;
  kvferry::kernels::GemvMatrix view;
};

// `batch` rows of `columns` values, some of them far larger than the others, `stride` apart with
// NaN between them.
struct Rows {
  Rows(int batch, std::size_t columns_of, std::size_t apart, std::uint32_t seed)
      : columns(columns_of), stride(apart), values(batch * apart, kNaN) {
    for (int b = 0; b < batch; ++b) {
      std::vector<float> row =
          cpu_fixture::random_floats(columns, seed + static_cast<std::uint32_t>(b));
      row[(7 + 5 * static_cast<std::size_t>(b)) % columns] *= 300.0f;
      for (std::size_t c = 0; c < columns; c += 17) row[c] *= 1e-3f;
      std::copy(row.begin(), row.end(), values.begin() + static_cast<std::ptrdiff_t>(b * stride));
    }
  }
  std::vector<float> row(int b) const {
    const auto first = values.begin() + static_cast<std::ptrdiff_t>(b * stride);
    return {first, first + static_cast<std::ptrdiff_t>(columns)};
  }
  std::size_t columns, stride;
  std::vector<float> values;
};

// How many of `got`, [batch, stride] with `count` valid ones a row, are not what they should be, or
// were written to where nothing should be.
inline std::size_t differences(const std::vector<float>& got,
                               const std::vector<std::vector<float>>& expected,
                               std::size_t stride) {
  std::size_t count = 0;
  for (std::size_t i = 0; i < got.size(); ++i) {
    const std::vector<float>& row = expected[i / stride];
    const bool is_same = i % stride < row.size()
                             ? std::memcmp(&got[i], &row[i % stride], sizeof(float)) == 0
                             : std::isnan(got[i]);
    count += is_same ? 0 : 1;
  }
  return count;
}

}  // namespace gemv_fixture
