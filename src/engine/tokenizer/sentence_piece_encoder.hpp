// SentencePieceEncoder: the SentencePiece vocabularies of Llama 2, TinyLlama and Mistral.
#pragma once

#include <array>
#include <cstddef>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "kvferry/core/result.hpp"
#include "kvferry/engine/vocabulary.hpp"

#include "merge.hpp"

namespace kvferry {

class SentencePieceEncoder {
 public:
  // Keeps views into vocabulary.tokens, which outlive it unchanged.
  explicit SentencePieceEncoder(const Vocabulary& vocabulary);

  // Appends the tokens of `text`, which has no special tokens, with a space put before it if
  // `space_before`. kUnsupported when a byte has neither a token nor an unknown token.
  Status encode(std::string_view text, bool space_before, std::vector<TokenId>& out) const;

 private:
  // The token as what a pair becomes, or nullptr.
  const Merge* find(std::string_view piece) const;

  std::unordered_map<std::string_view, Merge> tokens_;  // rank by score, highest first
  std::size_t longest_ = 0;                             // bytes
  std::array<TokenId, 256> token_of_byte_{};            // kNoToken where there is none
};

}  // namespace kvferry
