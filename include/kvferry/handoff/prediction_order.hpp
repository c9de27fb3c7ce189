// PredictionOrder: which blocks of a predicted hand-off can be decoded, and which have to wait.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "kvferry/cache/geometry.hpp"
#include "kvferry/codec/block_format.hpp"
#include "kvferry/codec/predictor.hpp"
#include "kvferry/core/result.hpp"
#include "kvferry/handoff/incoming_block.hpp"

namespace kvferry {

// Blocks come in any order; one that is predicted is held until the blocks that it is predicted
// from are decoded, and refused as soon as it is known that they can never be. One byte for each
// row, however a peer cuts its blocks, and the blocks that wait.
class PredictionOrder {
 public:
  // Of rows of tokens [begin, end).
  PredictionOrder(std::uint32_t layers, std::uint32_t begin, std::uint32_t end)
      : begin_(begin), end_(end) {
    marks_.resize(std::size_t{2} * layers * (end - begin), 0);
  }

  // Whether the rows come from the same source; an error says why not.
  using CheckPlace = std::function<Status(const KvRange&)>;

  // A block came, none of whose rows came before. It goes to `ready` unless it has to wait.
  // kProtocol when what it, or one that waits, is predicted from cannot come any more.
  Status add(IncomingBlock block, const CheckPlace& place, std::deque<IncomingBlock>& ready);

  // The block was decoded: those that waited for it alone go to `ready`.
  void decoded(const KvRange& range, std::deque<IncomingBlock>& ready);

  // Payload bytes of the blocks that wait, of the link of which the most do.
  std::uint64_t waiting_bytes() const {
    std::uint64_t most = 0;
    for (const auto& of_link : waiting_bytes_) most = std::max(most, of_link.second);
    return most;
  }
  bool empty() const { return waiting_.empty(); }
  // Forgets the blocks.
  void clear() {
    waiting_.clear();
    awaited_.clear();
    waiting_bytes_.clear();
  }

 private:
  enum Mark : std::uint8_t {
    kCame = 1,
    kFirst = 2,    // of its block
    kUsable = 4,   // coded by a method that others are predicted from
    kDecoded = 8,  // on the first row alone
  };
  // What is known of the block of exactly some rows.
  enum class Input { kMissing, kComing, kDecoded, kOtherCut, kUnusable };

  struct Waiting {
    IncomingBlock block;
    std::size_t missing = 0;
  };
  using Place = std::tuple<std::uint32_t, Plane, std::uint32_t>;  // layer, plane, begin
  // Those of a plane do not overlap.
  struct Awaited {
    std::uint32_t end = 0;
    std::vector<std::uint64_t> by;  // numbers of the blocks that wait
  };
  using AwaitedMap = std::map<Place, Awaited>;

  std::uint8_t* marks_of(const KvRange& range) {
    const std::size_t row = std::size_t{2} * range.layer + static_cast<std::size_t>(range.plane);
    return marks_.data() + row * (end_ - begin_) + (range.begin - begin_);
  }
  Input look_up(const KvRange& range);
  // What is awaited of the plane of `range` and overlaps with it.
  AwaitedMap::iterator find_awaited(const KvRange& range);
  Status mark(const KvRange& range, bool usable);
  static std::vector<KvRange> inputs_of(const KvRange& range, std::uint32_t layers_before);
  static Error never(const KvRange& block, const KvRange& input, const std::string& why) {
    return Error(ErrorCode::kProtocol, "BLOCK of " + to_string(block) + " is predicted from " +
                                           to_string(input) + ", " + why);
  }

  const std::uint32_t begin_;
  const std::uint32_t end_;
  std::vector<std::uint8_t> marks_;  // [layers, plane, tokens]
  std::map<std::uint64_t, Waiting> waiting_;
  AwaitedMap awaited_;
  std::map<std::size_t, std::uint64_t> waiting_bytes_;  // by link
  std::uint64_t next_number_ = 0;
};

inline PredictionOrder::Input PredictionOrder::look_up(const KvRange& range) {
  const std::uint8_t* const rows = marks_of(range);
  const std::uint32_t count = range.tokens();
  const auto came = [](std::uint8_t m) { return m != 0; };
  const auto begins = [](std::uint8_t m) { return (m & kFirst) != 0; };
  if (std::none_of(rows, rows + count, came)) return Input::kMissing;
  const bool longer = range.end < end_ && came(rows[count]) && !begins(rows[count]);
  if (!begins(rows[0]) || longer || !std::all_of(rows, rows + count, came) ||
      std::any_of(rows + 1, rows + count, begins)) {
    return Input::kOtherCut;
  }
  if ((rows[0] & kUsable) == 0) return Input::kUnusable;
  return (rows[0] & kDecoded) != 0 ? Input::kDecoded : Input::kComing;
}

inline PredictionOrder::AwaitedMap::iterator PredictionOrder::find_awaited(const KvRange& range) {
  auto found = awaited_.lower_bound({range.layer, range.plane, range.begin});
  if (found != awaited_.begin()) {
    const auto before = std::prev(found);
    if (std::get<0>(before->first) == range.layer && std::get<1>(before->first) == range.plane &&
        before->second.end > range.begin) {
      return before;
    }
  }
  const bool overlaps = found != awaited_.end() && std::get<0>(found->first) == range.layer &&
                        std::get<1>(found->first) == range.plane &&
                        std::get<2>(found->first) < range.end;
  return overlaps ? found : awaited_.end();
}

// Notes the rows of a block. The blocks that wait for some of them wait for exactly these.
inline Status PredictionOrder::mark(const KvRange& range, bool usable) {
  std::uint8_t* const rows = marks_of(range);
  std::fill_n(rows, range.tokens(), std::uint8_t{kCame});
  rows[0] = static_cast<std::uint8_t>(kCame | kFirst | (usable ? kUsable : 0));
  const auto awaited = find_awaited(range);
  if (awaited == awaited_.end()) return {};
  const bool exact = std::get<2>(awaited->first) == range.begin && awaited->second.end == range.end;
  if (exact && usable) return {};
  const KvRange input{range.layer, range.plane, std::get<2>(awaited->first), awaited->second.end};
  return never(waiting_.at(awaited->second.by.front()).block.range, input,
               exact ? "which came coded by a method that nothing is predicted from"
                     : "whose rows came in a block of other tokens, " + to_string(range));
}

inline std::vector<KvRange> PredictionOrder::inputs_of(const KvRange& range,
                                                       std::uint32_t layers_before) {
  std::vector<KvRange> inputs;
  for (std::uint32_t l = range.layer - layers_before; l < range.layer; ++l) {
    inputs.push_back({l, Plane::kKey, range.begin, range.end});
    inputs.push_back({l, Plane::kValue, range.begin, range.end});
  }
  if (range.plane == Plane::kValue)
    inputs.push_back({range.layer, Plane::kKey, range.begin, range.end});
  return inputs;
}

inline Status PredictionOrder::add(IncomingBlock block, const CheckPlace& place,
                                   std::deque<IncomingBlock>& ready) {
  const KvRange range = block.range;
  const auto header = parse_block_header(block.coded());
  KVFERRY_TRY(mark(range, header.ok() && header->method == BlockMethod::kQuantised));
  // What contradicts itself is left to the decoder, which names it.
  if (!header.ok() || header->predictor == 0 || header->layer != range.layer ||
      header->plane != range.plane || header->layers_before > Predictor::kMaxDepth) {
    ready.push_back(std::move(block));
    return {};
  }
  std::vector<KvRange> missing;
  for (const KvRange& input : inputs_of(range, header->layers_before)) {
    const Status comes = place(input);
    if (!comes.ok()) return never(range, input, "which does not come: " + comes.error().message);
    switch (look_up(input)) {
      case Input::kOtherCut:
        return never(range, input, "whose rows came in blocks of other tokens");
      case Input::kUnusable:
        return never(range, input, "which came coded by a method that nothing is predicted from");
      case Input::kMissing:
      case Input::kComing:
        missing.push_back(input);
        break;
      case Input::kDecoded:
        break;
    }
  }
  if (missing.empty()) {
    ready.push_back(std::move(block));
    return {};
  }
  const std::uint64_t number = next_number_++;
  for (const KvRange& input : missing) {
    const auto found = find_awaited(input);
    if (found == awaited_.end()) {
      awaited_[{input.layer, input.plane, input.begin}] = {input.end, {number}};
    } else if (std::get<2>(found->first) == input.begin && found->second.end == input.end) {
      found->second.by.push_back(number);
    } else {
      return never(range, input, "of which another block needs other tokens");
    }
  }
  waiting_bytes_[block.link] += block.payload.size();
  waiting_[number] = {std::move(block), missing.size()};
  return {};
}

inline void PredictionOrder::decoded(const KvRange& range, std::deque<IncomingBlock>& ready) {
  std::uint8_t& first = *marks_of(range);
  first = static_cast<std::uint8_t>(first | kDecoded);
  const auto awaited = find_awaited(range);
  if (awaited == awaited_.end()) return;
  for (const std::uint64_t number : awaited->second.by) {
    const auto waiting = waiting_.find(number);
    if (--waiting->second.missing != 0) continue;
    IncomingBlock& block = waiting->second.block;
    waiting_bytes_[block.link] -= block.payload.size();
    ready.push_back(std::move(block));
    waiting_.erase(waiting);
  }
  awaited_.erase(awaited);
}

}  // namespace kvferry
