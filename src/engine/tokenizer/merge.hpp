// The merging loop that byte-level BPE and SentencePiece share: of all neighbouring symbols that
// may merge, always the pair of the lowest rank, the leftmost of equals. O(n log n) for n symbols.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace kvferry {

// A piece of text in a doubly linked list over an array.
struct Symbol {
  std::uint32_t begin = 0;  // byte offset in the text
  std::uint32_t size = 0;   // bytes; 0 once it is merged into its left neighbour
  std::uint32_t id = 0;     // what the piece is; the caller's numbers
  std::int32_t previous = -1;
  std::int32_t next = -1;
};

// What two neighbours become.
struct Merge {
  std::uint32_t rank = 0;  // lower merges first
  std::uint32_t id = 0;
};

class SymbolMerger {
 public:
  void clear() { symbols_.clear(); }
  // Appends [begin, begin + size) of the text, size > 0.
  void push(std::uint32_t begin, std::uint32_t size, std::uint32_t id) {
    const auto index = static_cast<std::int32_t>(symbols_.size());
    if (index > 0) symbols_.back().next = index;
    Symbol symbol;
    symbol.begin = begin;
    symbol.size = size;
    symbol.id = id;
    symbol.previous = index - 1;
    symbols_.push_back(symbol);
  }

  // Merges until nothing can be. `find(left, right)` gives a pointer to the Merge of two symbols,
  // or nullptr; it is valid until the next call.
  template <typename Find>
  void run(const Find& find) {
    queue_.clear();
    for (std::size_t i = 1; i < symbols_.size(); ++i) {
      consider(static_cast<std::int32_t>(i - 1), static_cast<std::int32_t>(i), find);
    }
    while (!queue_.empty()) {
      std::pop_heap(queue_.begin(), queue_.end(), after);
      const Candidate candidate = queue_.back();
      queue_.pop_back();
      Symbol& left = symbols_[candidate.left];
      Symbol& right = symbols_[candidate.right];
      // Outdated when either has merged with another since.
      if (left.size == 0 || right.size == 0 || left.size + right.size != candidate.size) continue;
      left.size = candidate.size;
      left.id = candidate.id;
      right.size = 0;
      left.next = right.next;
      if (right.next >= 0) symbols_[right.next].previous = candidate.left;
      consider(left.previous, candidate.left, find);
      consider(candidate.left, left.next, find);
    }
  }

  // Calls `use(symbol)` for what is left, in order.
  template <typename Use>
  void for_each(const Use& use) const {
    for (std::int32_t i = symbols_.empty() ? -1 : 0; i >= 0; i = symbols_[i].next) use(symbols_[i]);
  }

 private:
  struct Candidate {
    std::uint32_t rank;
    std::int32_t left;
    std::int32_t right;
    std::uint32_t size;
    std::uint32_t id;
  };

  static bool after(const Candidate& a, const Candidate& b) {
    return a.rank != b.rank ? a.rank > b.rank : a.left > b.left;
  }

  template <typename Find>
  void consider(std::int32_t left, std::int32_t right, const Find& find) {
    if (left < 0 || right < 0) return;
    const Merge* merge = find(symbols_[left], symbols_[right]);
    if (merge == nullptr) return;
    queue_.push_back(
        {merge->rank, left, right, symbols_[left].size + symbols_[right].size, merge->id});
    std::push_heap(queue_.begin(), queue_.end(), after);
  }

  std::vector<Symbol> symbols_;
  std::vector<Candidate> queue_;  // a heap
};

}  // namespace kvferry
