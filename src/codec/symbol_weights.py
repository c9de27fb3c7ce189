#!/usr/bin/env python3
"""Writes symbol_weights.cpp, or with --text docs/symbol-weights.txt: the distributions that the
entropy coder of the lossy profiles is built from. The numbers are part of the wire format."""

import math
import sys

FIRST, LAST = -14, 12       # spreads 2^(k/4) steps
LAST_PAIRED = 2             # up to here a table codes two values at a time
STATES = 2048
WORTH = 0.16 / STATES       # rarer values and pairs are escapes


def tail(shape, spread, x):
    """Probability of a value above x >= 0, of a distribution of that standard deviation."""
    if shape == "gauss":
        return 0.5 * math.erfc(x / spread / math.sqrt(2))
    return 0.5 * math.exp(-math.sqrt(2) * x / spread)


def probability(shape, spread, v):
    if v == 0:
        return 1 - 2 * tail(shape, spread, 0.5)
    return tail(shape, spread, v - 0.5) - tail(shape, spread, v + 0.5)


def table(shape, k):
    """largest |v|, largest |a| + |b| of a pair (0: single values), weights of |v| = 0, 1, ..."""
    spread = 2 ** (k / 4)
    p = [probability(shape, spread, v) for v in range(128)]
    paired = k <= LAST_PAIRED
    scale = p[0] if paired else 1
    most = max(1, max(v for v in range(128) if p[v] * scale >= WORTH))
    most_sum = 0
    if paired:
        most_sum = max(1, max(a + b for a in range(most + 1) for b in range(most + 1)
                              if p[a] * p[b] >= WORTH))
    return most, most_sum, [max(1, round(p[v] * 2 ** 20)) for v in range(most + 1)]


def tables():
    for k in range(FIRST, LAST + 1):
        for shape in ("gauss", "laplace"):
            yield k, shape, table(shape, k)


def source():
    weights, entries = [], []
    for k, shape, (most, most_sum, w) in tables():
        entries.append(f"{{{most}, {most_sum}, {len(weights)}}},  // {shape} 2^({k}/4)")
        weights += w
    lines = ["    " + ", ".join(str(w) for w in weights[i:i + 12]) + ","
             for i in range(0, len(weights), 12)]
    return (HEAD + "constexpr std::uint32_t kWeights[] = {\n" + "\n".join(lines) + "\n};\n\n"
            + "constexpr Entry kEntries[] = {\n" + "\n".join("    " + e for e in entries) + "\n};\n"
            + TAIL)


def text():
    lines = ["# table  largest |v|  largest |a| + |b| (0: single values)  weights of |v| = 0, 1, ...",
             "# Written by src/codec/symbol_weights.py."]
    for i, (_, _, (most, most_sum, w)) in enumerate(tables()):
        lines.append(f"{i} {most} {most_sum} " + " ".join(str(x) for x in w))
    return "\n".join(lines) + "\n"


HEAD = """\
// Written by symbol_weights.py. Do not edit: the numbers are part of the wire format.
#include "symbol_weights.hpp"

#include <cassert>

namespace kvferry {
namespace {

struct Entry {
  std::uint8_t most;
  std::uint8_t most_sum;
  std::uint16_t first_weight;
};

// clang-format off
"""

TAIL = """\
// clang-format on

static_assert(sizeof kEntries / sizeof kEntries[0] == kSymbolTables, "every table has an entry");

}  // namespace

SymbolWeights symbol_weights(std::uint32_t table) {
  assert(table < kSymbolTables);
  const Entry& entry = kEntries[table];
  return {entry.most, entry.most_sum,
          Span<const std::uint32_t>(kWeights + entry.first_weight, entry.most + std::size_t{1})};
}

}  // namespace kvferry
"""

if __name__ == "__main__":
    sys.stdout.write(text() if "--text" in sys.argv[1:] else source())
