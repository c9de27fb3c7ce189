// Symbols to streams of bits and back, with the tables of tans_table.hpp.
//
// One coder or kLanes of them work side by side, each on a stream of its own. Values come in
// segments; all values of a segment have one table. Its symbols are dealt to the lanes in runs of
// neighbours: lane i gets count / lanes symbols, and one more while i < count % lanes. A stream is
// written from its segment's last symbol to its first and read from the end of its bytes to their
// beginning, so that a decoder meets the values in order.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <vector>

#include "kvferry/core/span.hpp"

#include "tans_table.hpp"

namespace kvferry {

constexpr std::size_t kLanes = 4;

// Symbols of `values` values.
inline std::size_t symbols_of(const TansTable& table, std::size_t values) {
  return table.paired ? (values + 1) / 2 : values;
}

class TansWriter {
 public:
  // For at most `symbols` symbols in `segments` segments on `lanes` lanes (1 or kLanes), whose
  // streams are then empty.
  void start(std::size_t lanes, std::size_t symbols, std::size_t segments);

  // Numbers of symbols of `table`. The segments come last first.
  void write_segment(const TansTable& table, const std::uint8_t* symbols, std::size_t count);

  // Ends the streams; they stay valid until the next start().
  void finish();
  Bytes stream(std::size_t lane) const {
    return Bytes(lanes_[lane].begin,
                 static_cast<std::size_t>(lanes_[lane].at - lanes_[lane].begin));
  }

 private:
  struct Lane {
    std::uint8_t* begin;
    std::uint8_t* at;
    std::uint64_t bits;   // not yet stored, the oldest lowest
    std::uint32_t count;  // of them, below 8 between calls
    std::uint32_t state;
  };

  std::size_t lane_count_ = 1;
  std::array<Lane, kLanes> lanes_;
  std::vector<std::uint8_t> bytes_;
};

class TansReader {
 public:
  // Any bytes, but at least 8 readable ones come before each stream. False when a stream has no
  // end mark or is too short for a state.
  bool start(Span<const Bytes> streams);

  // `count` values into `values`, which has room for one more. Reading past the beginning of a
  // stream gives some values of the table and is told by finish().
  void read_segment(const TansTable& table, std::int8_t* values, std::size_t count);

  // Whether every stream was used up exactly.
  bool finish() const;

 private:
  // The 8 bytes at `at`; `used` of their bits are read, the highest first.
  struct Lane {
    const std::uint8_t* at;
    const std::uint8_t* least;  // where `at` may not go below
    std::uint64_t window;
    std::uint32_t used;
    std::uint32_t state;  // - kStates
    bool overrun;
  };
  static void refill(Lane& lane);
  static std::uint32_t take(Lane& lane, std::uint32_t bits);
  // Out of line: inlined into one function, its loops are short of registers.
  template <bool kPaired, std::size_t kCount>
  __attribute__((noinline)) static void read_symbols(const std::uint32_t* decode, Lane* lanes,
                                                     std::int8_t* const* out, std::size_t count);

  std::size_t lane_count_ = 0;
  std::array<Lane, kLanes> lanes_;
};

}  // namespace kvferry
