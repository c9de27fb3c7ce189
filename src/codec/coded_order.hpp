// The order in which a block's values are coded, as encoder and decoder both derive it from the
// table ids of the channels and the number of tokens of each class.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "kvferry/codec/block.hpp"

#include "symbol_weights.hpp"

namespace kvferry {

// Table ids: 2 n and 2 n + 1 stand for a Gaussian and a Laplace distribution of standard deviation
// 2^((n - 14) / 4) steps. Above the widest table the lowest bits of a value are stored as they are,
// and the id is that of the rest.
constexpr std::uint32_t kIds = kSymbolTables + 48;

struct IdMeaning {
  std::uint32_t table;  // of symbol_weights.hpp
  std::uint32_t raw_bits;
};
inline IdMeaning meaning_of(std::uint32_t id) {
  if (id < kSymbolTables) return {id, 0};
  const std::uint32_t raw_bits = (id - kSymbolTables) / 8 + 1;
  return {id - 8 * raw_bits, raw_bits};
}

// The id of a channel's run of tokens of a class: each class doubles the values.
inline std::uint32_t id_of_class(std::uint32_t id, std::uint32_t token_class) {
  const std::uint32_t shifted = id + 8 * token_class;
  return shifted < kIds ? shifted : kIds - 2 + id % 2;
}

using ClassCounts = std::array<std::uint32_t, kMaxTokenClass + 1>;

// A run is the values of one channel in the tokens of one class, in the order of the tokens. All
// runs of one id make a segment. Segments come by id, runs within one by class, then by channel.
class CodedOrder {
 public:
  struct Segment {
    std::uint32_t id;
    std::size_t begin;  // of its values
    std::size_t count;
  };

  // `ids` are below kIds. Empty runs take no part.
  void arrange(const std::vector<std::uint8_t>& ids, const ClassCounts& counts);

  const std::vector<Segment>& segments() const { return segments_; }
  // Where the run of a channel begins.
  const std::size_t* run_begins(std::uint32_t token_class) const {
    return begins_.data() + token_class * channels_;
  }

 private:
  std::size_t channels_ = 0;
  std::vector<Segment> segments_;
  std::vector<std::size_t> begins_;  // [kMaxTokenClass + 1, channels]
};

}  // namespace kvferry
