#include <algorithm>
#include <cmath>
#include <map>
#include <vector>

#include "kvferry/core/half.hpp"
#include "kvferry/quality/baselines.hpp"

namespace kvferry {
namespace {

constexpr std::size_t kGroupTokens = 10;  // an anchor and nine differences
// Steps of the first, middle and last third of the layers, in deviations of a channel's
// differences.
constexpr float kSteps[] = {0.5f, 1.0f, 1.5f};

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
  const float relative_step = kSteps[3 * rows.layer / std::max<std::size_t>(rows.layers, 1)];
  std::uint64_t bits = 0;
  std::vector<int> symbols;
  for (std::size_t c = 0; c < width; ++c) {
    const auto at = [&](std::size_t t) -> float& { return rows.values[t * width + c]; };
    float largest = 0.0f;  // of the anchors
    for (std::size_t t = 0; t < rows.tokens; t += kGroupTokens)
      largest = std::max(largest, std::fabs(at(t)));
    const float anchor_step = as_half(largest / 127.0f);
    float squares = 0.0f;
    std::size_t differences = 0;
    for (std::size_t t = 0; t < rows.tokens; ++t) {
      const std::size_t anchor = t / kGroupTokens * kGroupTokens;
      if (t == anchor) {
        if (anchor_step != 0.0f) at(t) = std::round(at(t) / anchor_step) * anchor_step;
        bits += 8;
      } else {
        const float difference = at(t) - at(anchor);
        squares += difference * difference;
        ++differences;
      }
    }
    const float deviation =
        differences != 0 ? std::sqrt(squares / static_cast<float>(differences)) : 0.0f;
    const float step = as_half(relative_step * deviation);
    symbols.clear();
    for (std::size_t t = 0; t < rows.tokens; ++t) {
      const std::size_t anchor = t / kGroupTokens * kGroupTokens;
      if (t == anchor) continue;
      const float level = step != 0.0f ? std::round((at(t) - at(anchor)) / step) : 0.0f;
      symbols.push_back(static_cast<int>(level));
      at(t) = at(anchor) + level * step;
    }
    bits += coded_bits(symbols) + 2 * 16;  // and both steps
  }
  return bits;
}

}  // namespace kvferry
