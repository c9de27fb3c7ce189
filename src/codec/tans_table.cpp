#include "tans_table.hpp"

#include <algorithm>
#include <cstddef>
#include <cstdlib>

#include "symbol_weights.hpp"

namespace kvferry {
namespace {

// A symbol that takes part, and how many of the states it gets.
struct Share {
  std::int32_t symbol;
  std::uint32_t value;  // as decode has it
  std::uint64_t weight;
  std::uint32_t states;
};

std::uint32_t floor_log2(std::uint32_t x) {
  std::uint32_t n = 0;
  while (x >>= 1) ++n;
  return n;
}

std::uint32_t byte_of(std::int32_t value) {
  return static_cast<std::uint8_t>(static_cast<std::int8_t>(value));
}

std::vector<Share> shares_of(const SymbolWeights& w) {
  std::vector<Share> shares;
  const std::int32_t width = 2 * w.most + 1;
  for (std::int32_t a = -w.most; a <= w.most; ++a) {
    if (w.most_sum == 0) {
      shares.push_back({a + w.most, byte_of(a), w.weights[std::abs(a)], 0});
      continue;
    }
    for (std::int32_t b = -w.most; b <= w.most; ++b) {
      if (std::abs(a) + std::abs(b) > w.most_sum) continue;
      shares.push_back({(a + w.most) * width + b + w.most, byte_of(a) | byte_of(b) << 8,
                        std::uint64_t{w.weights[std::abs(a)]} * w.weights[std::abs(b)], 0});
    }
  }
  return shares;
}

// Divides the states by weight, at least one each. What rounding left over goes to, or comes from,
// where it changes the code length least; among equals the first. Products stay below 2^60.
void divide_states(std::vector<Share>& shares) {
  std::uint64_t all = 0;
  for (const Share& s : shares) all += s.weight;
  std::int32_t left = kStates;
  for (Share& s : shares) {
    s.states = std::max<std::uint32_t>(1, static_cast<std::uint32_t>(s.weight * kStates / all));
    left -= static_cast<std::int32_t>(s.states);
  }
  for (; left > 0; --left) {
    Share* most = &shares[0];
    for (Share& s : shares) {
      if (s.weight * (2 * most->states + 1) > most->weight * (2 * s.states + 1)) most = &s;
    }
    ++most->states;
  }
  for (; left < 0; ++left) {
    Share* least = nullptr;
    for (Share& s : shares) {
      if (s.states == 1) continue;
      if (least == nullptr ||
          s.weight * (2 * least->states - 1) < least->weight * (2 * s.states - 1)) {
        least = &s;
      }
    }
    --least->states;
  }
}

// -log2(part / all) in 1/256, rounded down; by squaring, in integers alone. 0 < part <= all.
std::uint32_t bits_of(std::uint64_t part, std::uint64_t all) {
  std::uint32_t whole = 0;
  while (all >= 2 * part) {
    part *= 2;
    ++whole;
  }
  std::uint64_t ratio = (all << 20) / part;  // 1 to 2, with 20 bits after the point
  std::uint32_t fraction = 0;
  for (std::uint32_t bit = 128; bit != 0; bit /= 2) {
    ratio = (ratio * ratio) >> 20;
    if (ratio >= 2u << 20) {
      ratio /= 2;
      fraction |= bit;
    }
  }
  return whole * 256 + fraction;
}

TansTable make_table(const SymbolWeights& w) {
  TansTable t;
  t.paired = w.most_sum != 0;
  t.most = w.most;
  t.most_sum = w.most_sum;
  t.width = 2 * w.most + 1;
  std::vector<Share> shares = shares_of(w);
  divide_states(shares);

  // Each symbol's states are spread evenly over the table.
  std::vector<std::uint16_t> share_at(kStates);
  std::uint32_t at = 0;
  for (std::size_t s = 0; s < shares.size(); ++s) {
    for (std::uint32_t n = 0; n < shares[s].states; ++n) {
      share_at[at] = static_cast<std::uint16_t>(s);
      at = (at + kStates / 2 + kStates / 8 + 3) % kStates;
    }
  }

  t.encode.resize(static_cast<std::size_t>(t.paired ? t.width * t.width : t.width), {0, 0});
  std::vector<std::uint32_t> next_slot;
  next_slot.reserve(shares.size());
  std::uint32_t slots = 0;
  for (const Share& s : shares) {
    const std::uint32_t bits = s.states == 1 ? kStateBits : kStateBits - floor_log2(s.states - 1);
    const std::uint32_t least_state = s.states == 1 ? kStates : s.states << bits;
    t.encode[static_cast<std::size_t>(s.symbol)] = {
        (bits << 16) - least_state,
        static_cast<std::int32_t>(slots) - static_cast<std::int32_t>(s.states)};
    next_slot.push_back(slots);
    slots += s.states;
  }
  t.next_state.resize(kStates);
  t.decode.resize(kStates);
  std::vector<std::uint32_t> next;
  next.reserve(shares.size());
  for (const Share& s : shares) next.push_back(s.states);
  for (std::uint32_t state = 0; state < kStates; ++state) {
    const std::uint16_t s = share_at[state];
    t.next_state[next_slot[s]++] = static_cast<std::uint16_t>(kStates + state);
    const std::uint32_t x = next[s]++;
    const std::uint32_t bits = kStateBits - floor_log2(x);
    t.decode[state] = shares[s].value | bits << 16 | ((x << bits) - kStates) << 20;
  }

  std::uint64_t all = 0;
  std::uint64_t magnitudes = 0;
  for (std::int32_t v = 0; v <= w.most; ++v) {
    const std::uint64_t both = std::uint64_t{w.weights[v]} * (v == 0 ? 1 : 2);
    all += both;
    magnitudes += both * static_cast<std::uint64_t>(v);
  }
  t.mean_magnitude = static_cast<std::uint32_t>((magnitudes << 16) / all);
  std::vector<std::uint64_t> states(static_cast<std::size_t>(w.most) + 1, 0);
  for (const Share& s : shares) {
    const auto a = static_cast<std::int8_t>(s.value & 0xff);
    states[static_cast<std::size_t>(std::abs(a))] += s.states;
  }
  for (std::int32_t v = 0; v <= w.most; ++v) {
    // Both signs were counted. A pair's first value stands for the second as well.
    const std::uint64_t part = v == 0 ? 2 * states[0] : states[v];
    t.cost[static_cast<std::size_t>(v)] = bits_of(part, 2 * kStates);
  }
  for (std::size_t v = static_cast<std::size_t>(w.most) + 1; v < kCosts; ++v)
    t.cost[v] = kEscapeCost + t.cost[0];
  return t;
}

}  // namespace

const TansTable* tans_tables() {
  static const std::vector<TansTable> tables = [] {
    std::vector<TansTable> made;
    for (std::uint32_t i = 0; i < kSymbolTables; ++i) made.push_back(make_table(symbol_weights(i)));
    return made;
  }();
  return tables.data();
}

}  // namespace kvferry
