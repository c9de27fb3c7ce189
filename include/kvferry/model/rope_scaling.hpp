// The RoPE scaling schemes of the Llama families, each reduced to a RopeSpec. Frequencies are
// computed in double and rounded once.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>

#include "kvferry/core/span.hpp"
#include "kvferry/model/rope.hpp"

namespace kvferry {

// RoPE as first published: pair i turns by base^(-2i / rotated) per position.
struct RopeParameters {
  RopeLayout layout = RopeLayout::kInterleaved;
  std::uint32_t rotated = 0;  // values of a head that are rotated; even
  double base = 10000.0;      // > 1
};

namespace detail {

template <typename Frequency>
RopeSpec rope_from(const RopeParameters& p, Frequency scaled) {
  RopeSpec spec;
  spec.layout = p.layout;
  spec.inverse_frequency.reserve(p.rotated / 2);
  for (std::uint32_t i = 0; i < p.rotated / 2; ++i) {
    const double plain = std::pow(p.base, -2.0 * i / p.rotated);
    spec.inverse_frequency.push_back(static_cast<float>(scaled(i, plain)));
  }
  return spec;
}

constexpr double kPi = 3.14159265358979323846;

}  // namespace detail

inline RopeSpec plain_rope(const RopeParameters& p) {
  return detail::rope_from(p, [](std::uint32_t, double f) { return f; });
}

// Position interpolation: every frequency divided by `factor` (> 0).
inline RopeSpec linear_rope(const RopeParameters& p, double factor) {
  return detail::rope_from(p, [&](std::uint32_t, double f) { return f / factor; });
}

// "NTK-aware": the base grows by factor^(d / (d - 2)), so that the slowest pair is interpolated by
// `factor` and the quickest not at all. Needs rotated > 2.
inline RopeSpec ntk_rope(const RopeParameters& p, double factor) {
  RopeParameters q = p;
  q.base *= std::pow(factor, static_cast<double>(p.rotated) / (p.rotated - 2.0));
  return plain_rope(q);
}

// Llama 3.1: wavelengths above original_context / low_frequency_factor are stretched by `factor`,
// those below original_context / high_frequency_factor not at all, a linear blend between.
struct Llama3Scaling {
  double factor = 8.0;
  double low_frequency_factor = 1.0;
  double high_frequency_factor = 4.0;  // > low_frequency_factor
  double original_context = 8192.0;    // tokens
};
inline RopeSpec llama3_rope(const RopeParameters& p, const Llama3Scaling& s) {
  return detail::rope_from(p, [&](std::uint32_t, double f) {
    const double turns = s.original_context * f / (2.0 * detail::kPi);
    const double blend =
        (turns - s.low_frequency_factor) / (s.high_frequency_factor - s.low_frequency_factor);
    const double keep = std::min(1.0, std::max(0.0, blend));
    return f * keep + f / s.factor * (1.0 - keep);
  });
}

// YaRN: pairs that turn more than beta_fast times in the original context keep their frequency,
// those that turn less than beta_slow times are interpolated, a ramp over the pair's number
// between.
struct YarnScaling {
  double factor = 1.0;            // >= 1
  double original_context = 0.0;  // tokens, > 0
  double beta_fast = 32.0;        // > 0
  double beta_slow = 1.0;         // > 0
  double extrapolation = 1.0;     // 1: as above; 0: all pairs interpolated, no attention scale
};
inline RopeSpec yarn_rope(const RopeParameters& p, const YarnScaling& s) {
  // The (fractional) pair that turns `turns` times in the original context.
  const auto pair_of = [&](double turns) {
    return p.rotated * std::log(s.original_context / (turns * 2.0 * detail::kPi)) /
           (2.0 * std::log(p.base));
  };
  const double low = std::max(0.0, std::floor(pair_of(s.beta_fast)));
  const double high = std::min(p.rotated - 1.0, std::ceil(pair_of(s.beta_slow)));
  RopeSpec spec = detail::rope_from(p, [&](std::uint32_t i, double f) {
    const double ramp = (i - low) / std::max(0.001, high - low);
    const double keep = (1.0 - std::min(1.0, std::max(0.0, ramp))) * s.extrapolation;
    return f / s.factor * (1.0 - keep) + f * keep;
  });
  if (s.extrapolation != 0.0) {
    spec.attention_scale = static_cast<float>(1.0 + 0.1 * std::log(s.factor));
  }
  return spec;
}

// Divides pair i's frequency by factors[i] (> 0): how GGUF stores Llama 3 scaling
// (rope_freqs.weight). `factors` has one value a pair.
inline void divide_frequencies(RopeSpec& spec, Span<const float> factors) {
  for (std::size_t i = 0; i < spec.inverse_frequency.size(); ++i) {
    spec.inverse_frequency[i] = static_cast<float>(static_cast<double>(spec.inverse_frequency[i]) /
                                                   static_cast<double>(factors[i]));
  }
}

}  // namespace kvferry
