#include "gemv_model.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "half_arithmetic.hpp"

using half_arithmetic::from_bits;
using half_arithmetic::fused;
using half_arithmetic::to_half;
using kvferry::maxwell::OctetMatrix;
using kvferry::octet::Format;

namespace gemv_model {
namespace {

// Sums of neighbours, then of neighbouring sums, and so on; the count is a power of two.
float sum_of_neighbours(std::vector<float> values) {
  for (std::size_t n = values.size(); n > 1; n /= 2) {
    for (std::size_t i = 0; i < n / 2; ++i) values[i] = values[2 * i] + values[2 * i + 1];
  }
  return values[0];
}

float power_of_two(int exponent) {
  return std::ldexp(1.0f, exponent);
}

// 32 inputs as the block holds them.
struct InputGroup {
  double x[32];  // F16 numbers
  float factor;
  float sum;
};

bool is_w4(Format format) {
  return format == Format::kW4 || format == Format::kW4Minimum;
}
// Inputs that meet the upper nibble of a byte.
bool is_upper(Format format, int column) {
  return is_w4(format) && column % 4 >= 2;
}

InputGroup input_group(const float* values, Format format, int t) {
  float largest = 0.0f;
  for (int c = 0; c < 32; ++c) {
    if (std::fabs(values[c]) > largest) largest = std::fabs(values[c]);
  }
  // 2^(t - 1) <= largest * 2^shift < 2^t
  int exponent = -97;
  if (std::isinf(largest)) {
    exponent = 103;
  } else if (largest > 0.0f) {
    exponent = std::min(std::max(std::ilogb(largest), -97), 103);
  }
  const int shift = t - 1 - exponent;
  InputGroup group{};
  std::vector<float> sums;
  for (int c = 0; c < 32; c += 4) {
    float held[4];
    for (int i = 0; i < 4; ++i) {
      const bool upper = is_upper(format, c + i);
      group.x[c + i] =
          to_half(static_cast<double>(values[c + i] * power_of_two(shift - 4 * upper)));
      held[i] = static_cast<float>(group.x[c + i]) * (upper ? 16.0f : 1.0f);
    }
    sums.push_back((held[0] + held[1]) + (held[2] + held[3]));
  }
  group.factor = power_of_two(-shift + (format == Format::kF16 ? 0 : 24));
  if (is_w4(format)) {
    group.sum = sum_of_neighbours(sums) * power_of_two(-shift);
    if (format == Format::kW4) group.sum *= -8.0f;
  }
  return group;
}

// A row's weights of one group as F16 numbers, and its scales.
struct WeightGroup {
  double w[32];
  float scale;
  float minimum;
};

std::uint32_t u32_at(const std::uint8_t* p) {
  std::uint32_t value;
  std::memcpy(&value, p, 4);
  return value;
}
std::uint16_t u16_at(const std::uint8_t* p) {
  std::uint16_t value;
  std::memcpy(&value, p, 2);
  return value;
}

WeightGroup weight_group(const OctetMatrix& m, std::size_t row, std::size_t g) {
  const std::size_t parts = m.format() == Format::kF16 ? 4 : m.format() == Format::kW8 ? 2 : 1;
  const std::size_t unit = row / 8 * m.groups() + g;
  const auto word = [&](std::size_t w) {
    return u32_at(m.quants().data() + unit * parts * 128 + w / 4 * 128 + row % 8 * 16 + w % 4 * 4);
  };
  const double least = std::ldexp(1.0, -24);
  WeightGroup group{};
  for (std::size_t c = 0; c < 32; ++c) {
    switch (m.format()) {
      case Format::kF16:
        group.w[c] = from_bits(static_cast<std::uint16_t>(word(c / 2) >> (c % 2 * 16)));
        break;
      case Format::kW8: {
        const unsigned magnitude[] = {0, 16, 8, 24}, sign[] = {15, 31, 23, 7};
        const std::uint32_t bits = word(c / 4);
        group.w[c] = (bits >> magnitude[c % 4] & 127) * least;
        if ((bits >> sign[c % 4] & 1) != 0) group.w[c] = -group.w[c];
        break;
      }
      case Format::kW4:
      case Format::kW4Minimum: {
        const std::uint32_t q = word(c / 8) >> (c % 8 / 2 * 4 + c % 2 * 16) & 15;
        group.w[c] = q * (c % 4 >= 2 ? 16.0 : 1.0) * least;
        break;
      }
    }
  }
  if (m.format() == Format::kW4Minimum) {
    const std::uint8_t* p = m.scales().data() + unit * 32 + row % 8 * 4;
    group.scale = static_cast<float>(from_bits(u16_at(p)));
    group.minimum = static_cast<float>(from_bits(u16_at(p + 2)));
  } else if (m.format() != Format::kF16) {
    group.scale =
        static_cast<float>(from_bits(u16_at(m.scales().data() + unit * 16 + row % 8 * 2)));
  }
  return group;
}

float chain_sum(const WeightGroup& w, const InputGroup& x, int first) {
  double low = to_half(w.w[first] * x.x[first]);
  double high = to_half(w.w[first + 1] * x.x[first + 1]);
  for (int c = first + 2; c < first + 16; c += 2) {
    low = fused(w.w[c], x.x[c], low);
    high = fused(w.w[c + 1], x.x[c + 1], high);
  }
  return static_cast<float>(low) + static_cast<float>(high);
}

float accumulate(Format format, float total, const WeightGroup& w, const InputGroup& x) {
  const float sum = chain_sum(w, x, 0) + chain_sum(w, x, 16);
  switch (format) {
    case Format::kF16:
      return std::fma(sum, x.factor, total);
    case Format::kW8:
      return std::fma(w.scale, sum * x.factor, total);
    case Format::kW4:
      return std::fma(w.scale, std::fma(sum, x.factor, x.sum), total);
    case Format::kW4Minimum:
      return std::fma(w.minimum, x.sum, std::fma(w.scale, sum * x.factor, total));
  }
  return 0.0f;
}

float exponential(float x) {
  if (std::isnan(x)) return x;
  if (x < -87.0f) return 0.0f;
  const float n = std::nearbyint(x * 1.44269504f);
  const float r = std::fma(n, 2.12194440e-4f, std::fma(n, -0.693359375f, x));
  const float coefficients[] = {1.39819994e-3f, 8.33345205e-3f, 4.16657962e-2f, 1.66666657e-1f,
                                0.5f};
  float p = 1.98756912e-4f;
  for (const float c : coefficients) p = std::fma(p, r, c);
  p = std::fma(p, r * r, r) + 1.0f;
  return p * power_of_two(static_cast<int>(n));
}

}  // namespace

std::vector<float> normed(const std::vector<float>& x, const std::vector<float>& weight,
                          float epsilon) {
  std::vector<float> threads(256, 0.0f);
  for (std::size_t c = 0; c < x.size(); ++c) {
    float& sum = threads[c / 4 % 256];
    sum = std::fma(x[c], x[c], sum);
  }
  float squares = 0.0f;
  for (std::size_t warp = 0; warp < 8; ++warp) {
    squares += sum_of_neighbours({threads.begin() + static_cast<std::ptrdiff_t>(32 * warp),
                                  threads.begin() + static_cast<std::ptrdiff_t>(32 * warp + 32)});
  }
  const float scale = 1.0f / std::sqrt(squares / static_cast<float>(x.size()) + epsilon);
  std::vector<float> result(x.size());
  for (std::size_t c = 0; c < x.size(); ++c) result[c] = x[c] * scale * weight[c];
  return result;
}

std::vector<float> product(const OctetMatrix& m, const std::vector<float>& x) {
  std::vector<InputGroup> inputs;
  for (std::size_t g = 0; g < m.groups(); ++g) {
    inputs.push_back(input_group(x.data() + 32 * g, m.format(), m.input_exponent()));
  }
  std::vector<float> result(m.rows());
  for (std::size_t r = 0; r < m.rows(); ++r) {
    std::vector<float> lanes(4, 0.0f);
    for (std::size_t g = 0; g < m.groups(); ++g) {
      float& lane = lanes[g % 4];
      lane = accumulate(m.format(), lane, weight_group(m, r, g), inputs[g]);
    }
    result[r] = sum_of_neighbours(lanes) * m.multiplier();
  }
  return result;
}

float swiglu(float gate, float up) {
  const float e = exponential(-std::fabs(gate));
  return (gate < 0.0f ? gate * e : gate) / (1.0f + e) * up;
}

// Every product is rounded to F16 nine times at most: its input once, and every sum of its chain of
// eight that it is part of; each by at most 2^-11 of what the chain has added up so far, which is
// at most its products' magnitudes. Minimum or zero point meet inputs rounded once. F32's own
// roundings, 2^-24 each, are covered by one more.
Reference reference(const OctetMatrix& m, const std::vector<float>& x) {
  Reference result;
  std::vector<float> weights(m.columns());
  for (std::size_t r = 0; r < m.rows(); ++r) {
    m.unpack_row(r, weights.data());
    double sum = 0.0, magnitudes = 0.0;
    for (std::size_t g = 0; g < m.groups(); ++g) {
      const WeightGroup group = weight_group(m, r, g);
      const double offset = m.format() == Format::kW4Minimum ? group.minimum
                            : m.format() == Format::kW4      ? -8.0 * group.scale
                                                             : 0.0;
      for (std::size_t c = 32 * g; c < 32 * g + 32; ++c) {
        const double shift = offset * static_cast<double>(m.multiplier());
        const double w = weights[c];
        sum += w * x[c];
        magnitudes += (std::fabs(w - shift) * 10 + std::fabs(shift) * 2) *
                      std::fabs(static_cast<double>(x[c]));
      }
    }
    result.values.push_back(sum);
    result.tolerances.push_back(std::ldexp(magnitudes, -11));
  }
  return result;
}

}  // namespace gemv_model
