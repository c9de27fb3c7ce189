// Which table codes given values in the fewest bits.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "coded_order.hpp"
#include "row_kernels.hpp"
#include "tans_table.hpp"

namespace kvferry {

// Counts of |value| of one channel, class by class.
class ValueCounts {
 public:
  void clear();
  // At most kMaxRowValues values in all.
  void add(const std::int16_t* values, std::size_t count, std::uint32_t token_class);

  // The cheapest id: a search from the one that the mean magnitude suggests, as bits fall to one
  // minimum. `bits` is what it takes, in 1/256.
  std::uint8_t best_id(std::uint64_t& bits);
  std::uint64_t bits_of(std::uint32_t id) const;

 private:
  using Counts = std::array<std::uint32_t, kMagnitudes>;

  struct Run {
    Counts counts{};
    std::uint32_t values = 0;
    std::uint32_t end = 0;  // above the largest magnitude there is
  };
  std::uint32_t typical_level() const;

  std::array<Run, kMaxTokenClass + 1> runs_;
};

}  // namespace kvferry
