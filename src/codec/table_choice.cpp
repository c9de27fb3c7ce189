#include "table_choice.hpp"

#include <algorithm>
#include <vector>

namespace kvferry {
namespace {

constexpr std::uint32_t kLevels = kIds / 2;

// costs[id][v]: what magnitude v takes, in 1/256 bit, without the raw bits of the id. The last one
// stands for all magnitudes that were not told apart.
using Costs = std::array<std::uint32_t, kMagnitudes>;

const Costs* magnitude_costs() {
  static const std::vector<Costs> costs = [] {
    std::vector<Costs> made(kIds);
    for (std::uint32_t id = 0; id < kIds; ++id) {
      const IdMeaning meaning = meaning_of(id);
      const std::uint32_t half = (1u << meaning.raw_bits) / 2;
      for (std::uint32_t v = 0; v < kMagnitudes; ++v) {
        const std::size_t kept = v + 1 == kMagnitudes ? kCosts : (v + half) >> meaning.raw_bits;
        made[id][v] = tans_tables()[meaning.table].cost[std::min(kept, kCosts - 1)];
      }
    }
    return made;
  }();
  return costs.data();
}

}  // namespace

void ValueCounts::clear() {
  for (Run& run : runs_) {
    std::fill_n(run.counts.begin(), run.end, 0u);
    run.values = 0;
    run.end = 0;
  }
}

void ValueCounts::add(const std::int16_t* values, std::size_t count, std::uint32_t token_class) {
  if (count == 0) return;
  Run& run = runs_[token_class];
  const std::size_t end = row_kernels().count_magnitudes(values, count, run.counts.data());
  run.values += static_cast<std::uint32_t>(count);
  run.end = std::max(run.end, static_cast<std::uint32_t>(end));
}

std::uint64_t ValueCounts::bits_of(std::uint32_t id) const {
  std::uint64_t bits = 0;
  for (std::uint32_t token_class = 0; token_class < runs_.size(); ++token_class) {
    const Run& run = runs_[token_class];
    if (run.values == 0) continue;
    const std::uint32_t class_id = id_of_class(id, token_class);
    // Cannot overflow: at most kMaxRowValues values of below 2^14 each.
    bits += row_kernels().sum_of_costs(run.counts.data(), magnitude_costs()[class_id].data(),
                                       (run.end + 15) / 16 * 16);
    bits += std::uint64_t{run.values} * meaning_of(class_id).raw_bits * 256;
  }
  return bits;
}

// The n of a Gaussian of about the values' mean magnitude.
std::uint32_t ValueCounts::typical_level() const {
  std::uint64_t magnitudes = 0;  // times 2^16
  std::uint64_t values = 0;
  for (std::uint32_t token_class = 0; token_class < runs_.size(); ++token_class) {
    const Run& run = runs_[token_class];
    std::uint64_t sum = 0;
    for (std::uint32_t v = 0; v < run.end; ++v) sum += std::uint64_t{v} * run.counts[v];
    magnitudes += (sum << 16) >> token_class;
    values += run.values;
  }
  const TansTable* tables = tans_tables();
  const auto is_below = [tables, magnitudes, values](std::uint32_t level) {
    const IdMeaning meaning = meaning_of(2 * level);
    return (values * tables[meaning.table].mean_magnitude << meaning.raw_bits) < magnitudes;
  };
  std::uint32_t level = 0;
  for (std::uint32_t step = 32; step != 0; step /= 2) {
    if (level + step < kLevels && is_below(level + step - 1)) level += step;
  }
  return level;
}

std::uint8_t ValueCounts::best_id(std::uint64_t& bits) {
  std::uint32_t level = typical_level();
  bits = bits_of(2 * level);
  const auto try_level = [this, &bits, &level](std::uint32_t next) {
    const std::uint64_t next_bits = bits_of(2 * next);
    if (next_bits >= bits) return false;
    bits = next_bits;
    level = next;
    return true;
  };
  if (level > 0 && try_level(level - 1)) {
    while (level > 0 && try_level(level - 1)) {
    }
  } else {
    while (level + 1 < kLevels && try_level(level + 1)) {
    }
  }
  std::uint32_t best = 2 * level;
  const std::uint32_t end = std::min(level + 2, kLevels);
  for (std::uint32_t n = level == 0 ? 0 : level - 1; n < end; ++n) {
    const std::uint64_t laplace = bits_of(2 * n + 1);
    if (laplace >= bits) continue;
    bits = laplace;
    best = 2 * n + 1;
  }
  return static_cast<std::uint8_t>(best);
}

}  // namespace kvferry
