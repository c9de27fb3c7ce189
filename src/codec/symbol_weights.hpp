// Distributions of quantised values that the entropy coder's tables are built from.
#pragma once

#include <cstdint>

#include "kvferry/core/span.hpp"

namespace kvferry {

// Tables 2 n and 2 n + 1: a Gaussian and a Laplace distribution of standard deviation
// 2^((n - 14) / 4) steps.
constexpr std::uint32_t kSymbolTables = 54;

struct SymbolWeights {
  std::int32_t most;      // largest |value|
  std::int32_t most_sum;  // of a pair: largest |a| + |b|; 0 where values are coded one by one
  Span<const std::uint32_t> weights;  // [most + 1], of |value| = 0, 1, …; about 2^20 in all
};

SymbolWeights symbol_weights(std::uint32_t table);

}  // namespace kvferry
