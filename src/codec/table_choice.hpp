// Which table codes given values in the fewest bits.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "coded_order.hpp"

namespace kvferry {

// Counts of |value| of one channel, class by class.
class ValueCounts {
 public:
  ValueCounts() { clear(); }
  void clear();
  void add(const std::int16_t* values, std::size_t count, std::uint32_t token_class);

  // The cheapest id: a search from the one that the mean magnitude suggests, as bits fall to one
  // minimum. `bits` is what it takes, in 1/256.
  std::uint8_t best_id(std::uint64_t& bits) const;
  std::uint64_t bits_of(std::uint32_t id) const;

 private:
  static constexpr std::size_t kCounted = 256;

  struct ClassCount {
    std::array<std::uint32_t, kCounted> counts;
    std::uint64_t magnitudes;  // sum of |value|, each at most kCounted
    std::uint32_t beyond;      // |value| of kCounted and above
    std::uint32_t end;         // above the largest |value| that was counted
  };
  std::uint32_t typical_level() const;
  std::uint64_t bits_of_run(const ClassCount& run, std::uint32_t id) const;

  std::array<ClassCount, kMaxTokenClass + 1> runs_;
  std::uint64_t values_ = 0;
};

}  // namespace kvferry
