// BytePairEncoder: byte-level BPE, text to token ids.
#pragma once

#include <array>
#include <cstdint>
#include <deque>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "kvferry/core/result.hpp"
#include "kvferry/engine/vocabulary.hpp"

#include "merge.hpp"
#include "pre_tokenizer.hpp"

namespace kvferry {

class BytePairEncoder {
 public:
  // Keeps views into vocabulary.tokens, which outlive it unchanged. kUnsupported for an unknown
  // pre-tokenizer, kMalformed for a merge that is not "left right".
  static Result<BytePairEncoder> create(const Vocabulary& vocabulary);

  // Appends the tokens of `text`, which has no special tokens. Bytes for which the vocabulary has
  // no token at all are left out.
  Status encode(std::string_view text, std::vector<TokenId>& out) const;

  bool cleans_spaces() const { return traits_->cleans_spaces; }

 private:
  BytePairEncoder(const PreTokenizerTraits& traits, PreTokenizer pre_tokenizer)
      : traits_(&traits), pre_tokenizer_(std::move(pre_tokenizer)) {}

  // The number of a piece of text: its token id, or a number above all ids for a piece that occurs
  // in merges only.
  std::uint32_t intern(const std::string& text);
  void encode_word(std::string_view word, SymbolMerger& merger, std::string& characters,
                   std::vector<TokenId>& out) const;
  void emit(std::uint32_t number, std::vector<TokenId>& out) const;

  const PreTokenizerTraits* traits_;
  PreTokenizer pre_tokenizer_;
  std::uint32_t token_count_ = 0;
  std::unordered_map<std::string_view, std::uint32_t> numbers_;
  std::deque<std::string> pieces_;  // texts of the numbers from token_count_ on
  std::array<std::uint32_t, 256> number_of_byte_{};
  std::unordered_map<std::uint64_t, Merge> merges_;  // by left number << 32 | right number
};

}  // namespace kvferry
