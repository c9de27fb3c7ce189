// SpecialTokens: finds tokens that are matched in the text before anything else cuts it.
#pragma once

#include <array>
#include <cstddef>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "kvferry/engine/vocabulary.hpp"

namespace kvferry {

// Token `id` is text[begin, begin + size).
struct SpecialMatch {
  std::size_t begin = 0;
  std::size_t size = 0;
  TokenId id = kNoToken;
};

// Bytes [begin, end) of a text.
struct TextRange {
  std::size_t begin = 0;
  std::size_t end = 0;
};

class SpecialTokens {
 public:
  // Keeps views into vocabulary.tokens, which outlive it unchanged.
  explicit SpecialTokens(const Vocabulary& vocabulary);

  // Matches that do not overlap, in order. The longest token takes its place first, then the next
  // longest in what is free, each from left to right. User-defined tokens match anywhere, control
  // and unknown tokens only inside of one of `control_ranges` (in order, not touching each other).
  std::vector<SpecialMatch> find(std::string_view text,
                                 const std::vector<TextRange>& control_ranges) const;

 private:
  struct Entry {
    TokenId id;
    bool anywhere;
  };

  std::unordered_map<std::string_view, Entry> entries_;
  std::vector<std::size_t> sizes_;  // of the entries, each once, longest first
  std::array<bool, 256> begins_entry_{};
};

}  // namespace kvferry
