#include "sentence_piece_encoder.hpp"

#include <algorithm>
#include <functional>

#include "sentence_piece.hpp"

namespace kvferry {
namespace {

// Bytes of the character that begins with `first`. What follows is not looked at: text that is not
// UTF-8 ends up as byte tokens.
std::size_t character_size(char first) {
  const auto byte = static_cast<unsigned char>(first);
  return byte < 0xc0 ? 1 : byte < 0xe0 ? 2 : byte < 0xf0 ? 3 : 4;
}

}  // namespace

SentencePieceEncoder::SentencePieceEncoder(const Vocabulary& vocabulary) {
  std::vector<float> scores = vocabulary.scores;
  std::sort(scores.begin(), scores.end(), std::greater<float>());
  scores.erase(std::unique(scores.begin(), scores.end()), scores.end());

  tokens_.reserve(vocabulary.tokens.size());
  for (std::size_t i = 0; i < vocabulary.tokens.size(); ++i) {
    const std::string& text = vocabulary.tokens[i];
    if (text.empty()) continue;
    const auto rank =
        std::lower_bound(scores.begin(), scores.end(), vocabulary.scores[i], std::greater<float>());
    tokens_.emplace(text, Merge{static_cast<std::uint32_t>(rank - scores.begin()),
                                static_cast<std::uint32_t>(i)});
    longest_ = std::max(longest_, text.size());
  }
  for (std::size_t byte = 0; byte < 256; ++byte) {
    const char as_text = static_cast<char>(byte);
    const Merge* token = find(byte_token_text(static_cast<unsigned char>(byte)));
    if (token == nullptr) token = find(std::string_view(&as_text, 1));
    token_of_byte_[byte] = token != nullptr ? token->id : vocabulary.unknown;
  }
}

const Merge* SentencePieceEncoder::find(std::string_view piece) const {
  if (piece.size() > longest_) return nullptr;
  const auto found = tokens_.find(piece);
  return found == tokens_.end() ? nullptr : &found->second;
}

Status SentencePieceEncoder::encode(std::string_view text, bool space_before,
                                    std::vector<TokenId>& out) const {
  std::string escaped;
  escaped.reserve(text.size() + text.size() / 4);
  if (space_before) escaped += kSpaceSymbol;
  for (const char c : text) {
    if (c == ' ') {
      escaped += kSpaceSymbol;
    } else {
      escaped += c;
    }
  }
  const std::string_view all = escaped;

  SymbolMerger merger;
  for (std::size_t i = 0; i < all.size();) {
    const std::size_t size = std::min(character_size(all[i]), all.size() - i);
    const Merge* token = find(all.substr(i, size));
    merger.push(static_cast<std::uint32_t>(i), static_cast<std::uint32_t>(size),
                token != nullptr ? token->id : kNoToken);
    i += size;
  }
  merger.run([&](const Symbol& left, const Symbol& right) {
    return find(all.substr(left.begin, left.size + right.size));
  });

  int byte_without_token = -1;
  merger.for_each([&](const Symbol& symbol) {
    if (symbol.id != kNoToken) {
      out.push_back(symbol.id);
      return;
    }
    for (const char c : all.substr(symbol.begin, symbol.size)) {
      const auto byte = static_cast<unsigned char>(c);
      if (token_of_byte_[byte] == kNoToken) byte_without_token = byte;
      out.push_back(token_of_byte_[byte]);
    }
  });
  if (byte_without_token >= 0) {
    return Error(ErrorCode::kUnsupported,
                 "the vocabulary has no token " +
                     byte_token_text(static_cast<unsigned char>(byte_without_token)) +
                     " and no unknown token for a byte of the text");
  }
  return {};
}

}  // namespace kvferry
