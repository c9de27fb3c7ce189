#include "table_choice.hpp"

#include <algorithm>
#include <cstdlib>

#include "tans_table.hpp"

namespace kvferry {
namespace {

// What an escape takes beside its symbol, in 1/256 bit: an entry of about three bytes.
constexpr std::uint64_t kEscape = 24 * 256;

constexpr std::uint32_t kLevels = kIds / 2;

}  // namespace

void ValueCounts::clear() {
  for (ClassCount& run : runs_) {
    run.counts.fill(0);
    run.magnitudes = 0;
    run.beyond = 0;
    run.end = 0;
  }
  values_ = 0;
}

void ValueCounts::add(const std::int16_t* values, std::size_t count, std::uint32_t token_class) {
  ClassCount& run = runs_[token_class];
  values_ += count;
  for (std::size_t i = 0; i < count; ++i) {
    const auto magnitude = static_cast<std::uint32_t>(std::abs(values[i]));
    if (magnitude >= kCounted) {
      ++run.beyond;
      run.magnitudes += kCounted;
      continue;
    }
    ++run.counts[magnitude];
    run.magnitudes += magnitude;
    run.end = std::max(run.end, magnitude + 1);
  }
}

std::uint64_t ValueCounts::bits_of_run(const ClassCount& run, std::uint32_t id) const {
  const IdMeaning meaning = meaning_of(id);
  const TansTable& table = tans_table(meaning.table);
  const std::uint32_t half = (1u << meaning.raw_bits) / 2;
  const std::uint64_t escape = kEscape + table.cost[0];
  std::uint64_t bits = run.beyond * escape;
  std::uint64_t counted = run.beyond;
  for (std::uint32_t v = 0; v < run.end; ++v) {
    const std::uint32_t kept = (v + half) >> meaning.raw_bits;
    bits += run.counts[v] * (kept < table.cost.size() ? table.cost[kept] : escape);
    counted += run.counts[v];
  }
  return bits + counted * meaning.raw_bits * 256;
}

std::uint64_t ValueCounts::bits_of(std::uint32_t id) const {
  std::uint64_t bits = 0;
  for (std::uint32_t token_class = 0; token_class < runs_.size(); ++token_class)
    bits += bits_of_run(runs_[token_class], id_of_class(id, token_class));
  return bits;
}

// The n of a Gaussian of about the values' mean magnitude.
std::uint32_t ValueCounts::typical_level() const {
  std::uint64_t magnitudes = 0;  // times 2^16
  for (std::uint32_t token_class = 0; token_class < runs_.size(); ++token_class)
    magnitudes += (runs_[token_class].magnitudes << 16) >> token_class;
  std::uint32_t level = 0;
  for (; level + 1 < kLevels; ++level) {
    const IdMeaning meaning = meaning_of(2 * level);
    const std::uint64_t mean = std::uint64_t{tans_table(meaning.table).mean_magnitude}
                               << meaning.raw_bits;
    if (mean * values_ >= magnitudes) break;
  }
  return level;
}

std::uint8_t ValueCounts::best_id(std::uint64_t& bits) const {
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
