#include <algorithm>
#include <cmath>
#include <map>
#include <vector>

#include "kvferry/core/half.hpp"
#include "kvferry/quality/baselines.hpp"

namespace kvferry {
namespace {

constexpr std::size_t kGroupTokens = 10;  // an anchor and nine differences
// Steps of the first, middle and last third of the layers, in deviations of a plane's differences.
constexpr float kSteps[] = {0.33f, 0.67f, 1.0f};

float as_half(float x) {
  return to_float(to_half(x));
}

// Of an ideal entropy coder with a table of these symbols, and of the table: a count of 16 bits for
// each symbol from the smallest to the largest, and these two.
std::uint64_t coded_bits(const std::vector<int>& symbols) {
  std::map<int, double> counts;
  for (const int s : symbols) counts[s] += 1.0;
  if (counts.empty()) return 0;
  double bits = 0.0;
  const double total = static_cast<double>(symbols.size());
  for (const auto& entry : counts) bits += entry.second * std::log2(total / entry.second);
  const int entries = counts.rbegin()->first - counts.begin()->first + 1;
  return static_cast<std::uint64_t>(std::ceil(bits)) +
         16 * (static_cast<std::uint64_t>(entries) + 2);
}

}  // namespace

std::uint64_t round_cachegen(const PlaneRows& rows) {
  const std::size_t width = rows.kv_heads * rows.head_dim;
  const auto at = [&](std::size_t t, std::size_t c) -> float& {
    return rows.values[t * width + c];
  };
  const auto anchor_of = [](std::size_t t) { return t / kGroupTokens * kGroupTokens; };
  std::uint64_t bits = 0;
  for (std::size_t c = 0; c < width; ++c) {
    float largest = 0.0f;
    for (std::size_t t = 0; t < rows.tokens; t += kGroupTokens)
      largest = std::max(largest, std::fabs(at(t, c)));
    const float step = as_half(largest / 127.0f);
    for (std::size_t t = 0; t < rows.tokens; t += kGroupTokens, bits += 8)
      at(t, c) = step != 0.0f ? std::round(at(t, c) / step) * step : 0.0f;
    bits += 16;
  }
  double squares = 0.0;
  for (std::size_t t = 0; t < rows.tokens; ++t) {
    for (std::size_t c = 0; c < width; ++c) {
      const double difference = static_cast<double>(at(t, c) - at(anchor_of(t), c));
      squares += difference * difference;
    }
  }
  const float deviation =
      static_cast<float>(std::sqrt(squares / static_cast<double>(rows.values.size())));
  const float relative_step = kSteps[3 * rows.layer / std::max<std::size_t>(rows.layers, 1)];
  const float step = as_half(relative_step * deviation);
  bits += 16;
  std::vector<int> symbols;
  for (std::size_t c = 0; c < width; ++c) {
    symbols.clear();
    for (std::size_t t = 0; t < rows.tokens; ++t) {
      if (t == anchor_of(t)) continue;
      const float anchor = at(anchor_of(t), c);
      const float level = step != 0.0f ? std::round((at(t, c) - anchor) / step) : 0.0f;
      symbols.push_back(static_cast<int>(level));
      at(t, c) = anchor + level * step;
    }
    bits += coded_bits(symbols);
  }
  return bits;
}

}  // namespace kvferry
