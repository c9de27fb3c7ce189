#include "tans_streams.hpp"

#include <cassert>

namespace kvferry {
namespace {

// Symbols of at most kStateBits bits that one window, or the writer's 64 bits, takes.
constexpr std::size_t kGroup = 5;
static_assert(7 + kGroup * kStateBits <= 64, "a group fits");

void store(std::uint8_t* at, std::uint64_t bits) {
  std::memcpy(at, &bits, sizeof bits);
}
std::uint64_t load(const std::uint8_t* at) {
  std::uint64_t bits;
  std::memcpy(&bits, at, sizeof bits);
  return bits;
}

// Compilers keep a loop of so large a body, and count it.
template <std::size_t kTimes, typename Step>
__attribute__((always_inline)) inline void repeat(const Step& step) {
  if constexpr (kTimes != 0) {
    step();
    repeat<kTimes - 1>(step);
  }
}

}  // namespace

void TansWriter::start(std::size_t lanes, std::size_t symbols, std::size_t segments) {
  assert(lanes == 1 || lanes == kLanes);
  lane_count_ = lanes;
  // Each segment may give each lane one symbol more than its share; a stream ends with a state.
  const std::size_t most =
      (symbols / lanes + segments) * kStateBits / 8 + 2 * sizeof(std::uint64_t) + 2;
  bytes_.resize(lanes * most);
  for (std::size_t i = 0; i < lanes; ++i) {
    std::uint8_t* begin = bytes_.data() + i * most;
    lanes_[i] = {begin, begin, 0, 0, kStates};
  }
}

void TansWriter::write_segment(const TansTable& table, const std::uint8_t* symbols,
                               std::size_t count) {
  const TansTable::Step* encode = table.encode.data();
  const std::uint16_t* next_state = table.next_state.data();
  const auto put = [encode, next_state](Lane& lane, std::uint8_t symbol) {
    const TansTable::Step step = encode[symbol];
    const std::uint32_t bits = (lane.state + step.bits_of) >> 16;
    lane.bits |= std::uint64_t{lane.state & ((1u << bits) - 1)} << lane.count;
    lane.count += bits;
    lane.state = next_state[static_cast<std::int32_t>(lane.state >> bits) + step.first];
  };
  const auto flush = [](Lane& lane) {
    store(lane.at, lane.bits);
    lane.at += lane.count / 8;
    lane.bits >>= lane.count & ~7u;
    lane.count &= 7;
  };
  const std::size_t share = count / lane_count_;
  const std::size_t more = count % lane_count_;
  const std::uint8_t* first[kLanes];
  for (std::size_t i = 0; i < lane_count_; ++i) {
    first[i] = symbols;
    symbols += share + (i < more ? 1 : 0);
    if (i < more) {
      put(lanes_[i], first[i][share]);
      flush(lanes_[i]);
    }
  }
  std::size_t left = share;
  if (lane_count_ == kLanes) {
    Lane a = lanes_[0], b = lanes_[1], c = lanes_[2], d = lanes_[3];
    const auto put_each = [&]() __attribute__((always_inline)) {
      --left;
      put(a, first[0][left]);
      put(b, first[1][left]);
      put(c, first[2][left]);
      put(d, first[3][left]);
    };
    const auto flush_each = [&] {
      flush(a);
      flush(b);
      flush(c);
      flush(d);
    };
    while (left >= kGroup) {
      repeat<kGroup>(put_each);
      flush_each();
    }
    while (left > 0) put_each();
    flush_each();
    lanes_ = {a, b, c, d};
  } else {
    while (left > 0) {
      for (std::size_t n = left < kGroup ? left : kGroup; n > 0; --n)
        put(lanes_[0], first[0][--left]);
      flush(lanes_[0]);
    }
  }
}

void TansWriter::finish() {
  for (std::size_t i = 0; i < lane_count_; ++i) {
    Lane& lane = lanes_[i];
    // The state, and a set bit by which the last one is found.
    lane.bits |= std::uint64_t{lane.state} << lane.count;
    static_assert(kStates == 1u << kStateBits, "the state's highest bit is the mark");
    store(lane.at, lane.bits);
    lane.at += (lane.count + kStateBits + 1 + 7) / 8;
  }
}

inline void TansReader::refill(Lane& lane) {
  lane.at -= lane.used / 8;
  lane.used &= 7;
  if (lane.at < lane.least) {
    lane.at = lane.least;
    lane.overrun = true;
  }
  lane.window = load(lane.at);
}

inline std::uint32_t TansReader::take(Lane& lane, std::uint32_t bits) {
  // Two shifts, as bits may be 0.
  const std::uint64_t value = ((lane.window << lane.used) >> 1) >> (63 - bits);
  lane.used += bits;
  return static_cast<std::uint32_t>(value);
}

bool TansReader::start(Span<const Bytes> streams) {
  assert(streams.size() == 1 || streams.size() == kLanes);
  lane_count_ = streams.size();
  for (std::size_t i = 0; i < lane_count_; ++i) {
    const Bytes s = streams[i];
    if (s.size() < 2 || s[s.size() - 1] == 0) return false;
    Lane& lane = lanes_[i];
    lane.at = s.data() + s.size() - 8;
    lane.least = s.data() - 8;
    lane.window = load(lane.at);
    lane.used = 1;
    for (std::uint8_t last = s[s.size() - 1]; (last & 0x80) == 0;
         last = static_cast<std::uint8_t>(last << 1))
      ++lane.used;
    lane.overrun = false;
    lane.state = take(lane, kStateBits);
    if (lane.used > 8 * s.size()) return false;
    refill(lane);
  }
  return true;
}

// Lane i reads `count` symbols to out[i].
template <bool kPaired, std::size_t kCount>
void TansReader::read_symbols(const std::uint32_t* decode, Lane* lanes, std::int8_t* const* out,
                              std::size_t count) {
  Lane lane[kCount];
  std::int8_t* to[kCount];
  for (std::size_t i = 0; i < kCount; ++i) {
    lane[i] = lanes[i];
    to[i] = out[i];
  }
  const auto step = [decode, &lane, &to](std::size_t i) {
    const std::uint32_t entry = decode[lane[i].state];
    if (kPaired) {
      std::memcpy(to[i], &entry, 2);
      to[i] += 2;
    } else {
      *to[i]++ = static_cast<std::int8_t>(entry);
    }
    lane[i].state = (entry >> 20) + take(lane[i], entry >> 16 & 15);
  };
  for (; count >= kGroup; count -= kGroup) {
    for (std::size_t n = 0; n < kGroup; ++n) {
      for (std::size_t i = 0; i < kCount; ++i) step(i);
    }
    for (std::size_t i = 0; i < kCount; ++i) refill(lane[i]);
  }
  for (; count > 0; --count) {
    for (std::size_t i = 0; i < kCount; ++i) step(i);
  }
  for (std::size_t i = 0; i < kCount; ++i) {
    refill(lane[i]);
    lanes[i] = lane[i];
  }
}

void TansReader::read_segment(const TansTable& table, std::int8_t* values, std::size_t count) {
  const std::uint32_t* decode = table.decode.data();
  const std::size_t symbols = symbols_of(table, count);
  const std::size_t share = symbols / lane_count_;
  const std::size_t more = symbols % lane_count_;
  const std::size_t width = table.paired ? 2 : 1;
  std::int8_t* out[kLanes];
  std::int8_t* at = values;
  for (std::size_t i = 0; i < lane_count_; ++i) {
    out[i] = at;
    at += width * (share + (i < more ? 1 : 0));
  }
  if (lane_count_ == kLanes && table.paired) {
    read_symbols<true, kLanes>(decode, lanes_.data(), out, share);
  } else if (lane_count_ == kLanes) {
    read_symbols<false, kLanes>(decode, lanes_.data(), out, share);
  } else if (table.paired) {
    read_symbols<true, 1>(decode, lanes_.data(), out, share);
  } else {
    read_symbols<false, 1>(decode, lanes_.data(), out, share);
  }
  for (std::size_t i = 0; i < more; ++i) {
    std::int8_t* last = out[i] + width * share;
    if (table.paired) {
      read_symbols<true, 1>(decode, &lanes_[i], &last, 1);
    } else {
      read_symbols<false, 1>(decode, &lanes_[i], &last, 1);
    }
  }
}

bool TansReader::finish() const {
  for (std::size_t i = 0; i < lane_count_; ++i) {
    const Lane& lane = lanes_[i];
    if (lane.overrun || lane.at != lane.least || lane.used != 0 || lane.state != 0) return false;
  }
  return true;
}

}  // namespace kvferry
