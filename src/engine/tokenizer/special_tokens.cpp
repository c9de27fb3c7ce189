#include "special_tokens.hpp"

#include <algorithm>
#include <functional>

namespace kvferry {
namespace {

bool lies_inside(std::size_t begin, std::size_t end, const std::vector<TextRange>& ranges) {
  const auto after = std::upper_bound(
      ranges.begin(), ranges.end(), begin,
      [](std::size_t position, const TextRange& range) { return position < range.begin; });
  return after != ranges.begin() && end <= std::prev(after)->end;
}

}  // namespace

SpecialTokens::SpecialTokens(const Vocabulary& vocabulary) {
  for (std::size_t i = 0; i < vocabulary.tokens.size(); ++i) {
    const TokenType type = vocabulary.types[i];
    const bool anywhere = type == TokenType::kUserDefined;
    const std::string_view text = vocabulary.tokens[i];
    if (text.empty()) continue;
    if (!anywhere && type != TokenType::kControl && type != TokenType::kUnknown) continue;
    entries_.emplace(text, Entry{static_cast<TokenId>(i), anywhere});
    sizes_.push_back(text.size());
    begins_entry_[static_cast<unsigned char>(text[0])] = true;
  }
  std::sort(sizes_.begin(), sizes_.end(), std::greater<std::size_t>());
  sizes_.erase(std::unique(sizes_.begin(), sizes_.end()), sizes_.end());
}

std::vector<SpecialMatch> SpecialTokens::find(std::string_view text,
                                              const std::vector<TextRange>& control_ranges) const {
  std::vector<std::size_t> candidates;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (begins_entry_[static_cast<unsigned char>(text[i])]) candidates.push_back(i);
  }
  std::vector<SpecialMatch> matches;
  if (candidates.empty()) return matches;

  std::vector<bool> taken(text.size(), false);
  for (const std::size_t size : sizes_) {
    for (const std::size_t begin : candidates) {
      if (size > text.size() - begin) break;
      // What is taken so far is at least this long: it would cover one of the ends.
      if (taken[begin] || taken[begin + size - 1]) continue;
      const auto entry = entries_.find(text.substr(begin, size));
      if (entry == entries_.end()) continue;
      if (!entry->second.anywhere && !lies_inside(begin, begin + size, control_ranges)) continue;
      std::fill_n(taken.begin() + static_cast<std::ptrdiff_t>(begin), size, true);
      matches.push_back({begin, size, entry->second.id});
    }
  }
  std::sort(matches.begin(), matches.end(),
            [](const SpecialMatch& a, const SpecialMatch& b) { return a.begin < b.begin; });
  return matches;
}

}  // namespace kvferry
