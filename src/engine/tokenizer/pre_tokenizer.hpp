// PreTokenizer: cuts text into the words inside of which byte-level BPE merges.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "kvferry/core/result.hpp"

namespace kvferry {

// How a model family's vocabulary wants its text, beside the expressions that cut it.
struct PreTokenizerTraits {
  std::vector<const char*> expressions;  // each cuts what the one before it left in one piece
  bool ignore_merges = false;            // a word that is a token is taken whole, merges or not
  bool adds_bos = false;                 // unless the file says otherwise
  bool cleans_spaces = false;            // detokenising drops spaces before punctuation
};

// nullptr for a name that is not known.
const PreTokenizerTraits* pre_tokenizer_traits(std::string_view name);

// Immutable; any number of threads may use one.
class PreTokenizer {
 public:
  static Result<PreTokenizer> create(const PreTokenizerTraits& traits);

  // `classes` is the text with one class byte (unicode.hpp) a character. Gives the end of each word
  // in characters, in order; the last one is the end of the text. Linear in the text's length.
  Result<std::vector<std::uint32_t>> split(std::string_view classes) const;

 private:
  struct Expression;
  PreTokenizer() = default;
  std::vector<std::shared_ptr<const Expression>> expressions_;
};

}  // namespace kvferry
