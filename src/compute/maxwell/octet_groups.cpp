#include "octet_groups.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

#include "../cpu/weight_groups.hpp"

namespace kvferry::maxwell {
namespace {

using octet::Format;
constexpr int kValues = octet::kGroupColumns;

// The parameters of a group of the file in the format's terms: a zero point becomes a minimum.
struct Parameters {
  float scale;
  float minimum;
};

Parameters parameters_of(const cpu::GroupForm& form, Format format, const cpu::WeightGroup& group) {
  if (format != Format::kW4Minimum) return {group.scale, 0.0f};
  const float zero = static_cast<float>(form.zero_point);
  return {group.scale, form.has_minimum ? group.second : -zero * group.scale};
}

// To the nearest whole number of a range, ties to even: below 2^22 the sum has no place for parts.
std::int8_t rounded(float value, float smallest, float largest) {
  constexpr float kWhole = 12582912.0f;  // 1.5 * 2^23
  const float bounded = std::min(std::max(value, smallest), largest);
  return static_cast<std::int8_t>((bounded + kWhole) - kWhole);
}

void quantise_w8(const float* values, QuantisedGroup& out) {
  float largest = 0.0f;
  for (int i = 0; i < kValues; ++i) largest = std::max(largest, std::fabs(values[i]));
  out.scale = to_half(largest / 127.0f);
  const float scale = to_float(out.scale);
  for (int i = 0; i < kValues; ++i) {
    out.q[i] = scale == 0.0f ? std::int8_t{0} : rounded(values[i] / scale, -127.0f, 127.0f);
  }
}

void quantise_w4_minimum(const float* values, QuantisedGroup& out) {
  const float smallest = *std::min_element(values, values + kValues);
  const float largest = *std::max_element(values, values + kValues);
  out.minimum = to_half(smallest);
  const float minimum = to_float(out.minimum);
  out.scale = to_half((largest - minimum) / 15.0f);
  const float scale = to_float(out.scale);
  for (int i = 0; i < kValues; ++i) {
    out.q[i] = scale == 0.0f ? std::int8_t{0} : rounded((values[i] - minimum) / scale, 0.0f, 15.0f);
  }
}

// The value of largest magnitude is put at -8 or somewhat beside it; of these scales, each moved to
// where its whole numbers fit best, the one with the least squared error is taken.
void quantise_w4(const float* values, QuantisedGroup& out) {
  const float extreme = *std::max_element(
      values, values + kValues, [](float a, float b) { return std::fabs(a) < std::fabs(b); });
  out.scale = Half{0};
  std::fill(out.q, out.q + kValues, std::int8_t{0});
  float least = std::numeric_limits<float>::infinity();
  constexpr float kPlaces[] = {-7.1f, -7.4f, -7.7f, -8.0f, -8.3f, -8.6f, -8.9f};
  for (const float place : kPlaces) {
    const float first = extreme / place;
    if (!(std::fabs(first) > 0.0f)) return;  // all zero
    QuantisedGroup trial;
    float products = 0.0f, squares = 0.0f;
    for (int i = 0; i < kValues; ++i) {
      trial.q[i] = rounded(values[i] / first, -8.0f, 7.0f);
      const float q = static_cast<float>(trial.q[i]);
      products += values[i] * q;
      squares += q * q;
    }
    trial.scale = to_half(products / squares);
    const float scale = to_float(trial.scale);
    float error = 0.0f;
    for (int i = 0; i < kValues; ++i) {
      const float difference = values[i] - scale * static_cast<float>(trial.q[i]);
      error += difference * difference;
    }
    if (error < least) {
      least = error;
      out.scale = trial.scale;
      std::copy(trial.q, trial.q + kValues, out.q);
    }
  }
}

}  // namespace

bool keeps_groups(TensorType type, Format format) {
  switch (format) {
    case Format::kF16:
      return false;
    case Format::kW8:
      return type == TensorType::kQ8_0 || type == TensorType::kQ5_0 || type == TensorType::kQ4_0;
    case Format::kW4:
      return type == TensorType::kQ4_0;
    case Format::kW4Minimum:
      return type == TensorType::kQ4_0 || type == TensorType::kQ4_1 || type == TensorType::kQ4_K;
  }
  return false;
}

bool is_exact(TensorType type, Format format) {
  if (format == Format::kF16) return type == TensorType::kF16;
  return keeps_groups(type, format) && type != TensorType::kQ4_K;
}

float parameter_extent(TensorType type, Format format, const std::uint8_t* row, std::size_t index) {
  cpu::GroupForm form{};
  cpu::group_form(type, form);
  cpu::WeightGroup group{};
  cpu::read_parameters(type, row, index, group);
  const Parameters p = parameters_of(form, format, group);
  const float scale = std::fabs(p.scale), minimum = std::fabs(p.minimum);
  return scale != scale || scale > minimum ? scale : minimum;
}

bool keep_group(TensorType type, Format format, const std::uint8_t* row, std::size_t index,
                float inverse, QuantisedGroup& out) {
  cpu::GroupForm form{};
  cpu::group_form(type, form);
  cpu::WeightGroup group{};
  cpu::read_group(type, row, index, group);
  const Parameters p = parameters_of(form, format, group);
  out.scale = to_half(p.scale * inverse);
  out.minimum = to_half(p.minimum * inverse);
  const int zero = format == Format::kW4Minimum ? 0 : form.zero_point;
  const int smallest = format == Format::kW8 ? -127 : -8;
  for (int i = 0; i < kValues; ++i) {
    const int q = group.q[i] - zero;
    if (q < smallest) return false;
    out.q[i] = static_cast<std::int8_t>(q);
  }
  return true;
}

void quantise_group(Format format, const float* values, QuantisedGroup& out) {
  switch (format) {
    case Format::kF16:
      break;
    case Format::kW8:
      return quantise_w8(values, out);
    case Format::kW4:
      return quantise_w4(values, out);
    case Format::kW4Minimum:
      return quantise_w4_minimum(values, out);
  }
}

}  // namespace kvferry::maxwell
