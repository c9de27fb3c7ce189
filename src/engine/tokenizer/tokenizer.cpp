#include "kvferry/engine/tokenizer.hpp"

#include <cstddef>
#include <optional>
#include <unordered_map>
#include <utility>

#include "kvferry/core/quoted.hpp"

#include "byte_pair_encoder.hpp"
#include "sentence_piece.hpp"
#include "sentence_piece_encoder.hpp"
#include "space_cleanup.hpp"
#include "special_tokens.hpp"
#include "token_names.hpp"
#include "unicode.hpp"

namespace kvferry {
namespace {

// Text of a byte-level BPE token. A character that stands for no byte is kept as it is.
std::string decode_byte_characters(const std::string& text) {
  std::string out;
  for (std::size_t i = 0; i < text.size();) {
    const DecodedCharacter character = decode_character(text, i);
    const int byte = ByteCharacters::byte_of(character.code_point);
    if (byte >= 0) {
      out.push_back(static_cast<char>(byte));
    } else {
      out.append(text, i, character.size);
    }
    i += character.size;
  }
  return out;
}

std::string decode_space_symbols(const std::string& text) {
  const std::string symbol = kSpaceSymbol;
  std::string out;
  std::size_t begin = 0;
  for (;;) {
    const std::size_t at = text.find(symbol, begin);
    out.append(text, begin, at - begin);
    if (at == std::string::npos) return out;
    out.push_back(' ');
    begin = at + symbol.size();
  }
}

std::string piece_of(const Vocabulary& v, TokenId id) {
  const std::string& text = v.tokens[id];
  switch (v.types[id]) {
    case TokenType::kNormal:
      return v.model == TokenizerModel::kBytePairEncoding ? decode_byte_characters(text)
                                                          : decode_space_symbols(text);
    case TokenType::kUnknown:
    case TokenType::kControl:
    case TokenType::kUserDefined:
      return text;
    case TokenType::kByte: {
      const int byte = byte_of_token_text(text);
      return byte < 0 ? std::string() : std::string(1, static_cast<char>(byte));
    }
    case TokenType::kUnused:
      break;
  }
  return std::string();
}

}  // namespace

struct Tokenizer::Tables {
  Vocabulary vocabulary;
  std::unordered_map<std::string_view, TokenId> id_of_text;
  std::vector<std::string> pieces;
  std::vector<bool> hidden;  // written only with unparse_special
  std::vector<bool> ends_generation;
  // Views into vocabulary.tokens.
  std::optional<SpecialTokens> special;
  std::optional<BytePairEncoder> byte_pair;
  std::optional<SentencePieceEncoder> sentence_piece;

  // Text between special tokens. SentencePiece's prefix comes at the start and after each of them.
  Status append(std::string_view text, std::vector<TokenId>& out) const {
    if (byte_pair) return byte_pair->encode(text, out);
    return sentence_piece->encode(text, vocabulary.add_space_prefix, out);
  }
};

Tokenizer::Tokenizer(std::shared_ptr<const Tables> tables) : tables_(std::move(tables)) {}

Result<Tokenizer> Tokenizer::create(Vocabulary vocabulary) {
  KVFERRY_TRY(validate(vocabulary));
  auto tables = std::make_shared<Tables>();
  tables->vocabulary = std::move(vocabulary);
  const Vocabulary& v = tables->vocabulary;

  const std::size_t count = v.tokens.size();
  tables->id_of_text.reserve(count);
  tables->pieces.reserve(count);
  tables->hidden.resize(count);
  tables->ends_generation.resize(count);
  for (TokenId id = 0; id < count; ++id) {
    const std::string& text = v.tokens[id];
    if (!text.empty()) {
      const auto added = tables->id_of_text.emplace(text, id);
      if (!added.second) {
        return Error(ErrorCode::kMalformed, "tokenizer.ggml.tokens: tokens " +
                                                std::to_string(added.first->second) + " and " +
                                                std::to_string(id) + " are both " + quoted(text));
      }
    }
    const TokenType type = v.types[id];
    tables->pieces.push_back(piece_of(v, id));
    tables->hidden[id] = type == TokenType::kControl || type == TokenType::kUnknown;
    tables->ends_generation[id] = type == TokenType::kControl && is_end_of_generation_name(text);
  }
  for (const TokenId id : {v.eos, v.eot, v.eom}) {
    if (id != kNoToken) tables->ends_generation[id] = true;
  }
  tables->special.emplace(v);
  if (v.model == TokenizerModel::kBytePairEncoding) {
    KVFERRY_ASSIGN(tables->byte_pair, BytePairEncoder::create(v));
  } else {
    tables->sentence_piece.emplace(v);
  }
  return Tokenizer(std::move(tables));
}

Result<std::vector<TokenId>> Tokenizer::tokenize(std::string_view text,
                                                 TokenizeOptions options) const {
  const TextPart part{text, options.parse_special};
  return tokenize(Span<const TextPart>(&part, 1), options.add_special);
}

Result<std::vector<TokenId>> Tokenizer::tokenize(Span<const TextPart> parts,
                                                 bool add_special) const {
  std::string joined;
  std::vector<TextRange> control_ranges;
  std::size_t size = 0;
  for (const TextPart& part : parts) {
    if (part.text.size() > kMaxTextBytes - size) {
      return Error(ErrorCode::kResourceExhausted,
                   "text of more than " + std::to_string(kMaxTextBytes) + " bytes to tokenise");
    }
    if (part.parse_special && !part.text.empty()) {
      if (!control_ranges.empty() && control_ranges.back().end == size) {
        control_ranges.back().end += part.text.size();
      } else {
        control_ranges.push_back({size, size + part.text.size()});
      }
    }
    size += part.text.size();
  }
  std::string_view text;
  if (parts.size() == 1) {
    text = parts[0].text;
  } else {
    joined.reserve(size);
    for (const TextPart& part : parts) joined += part.text;
    text = joined;
  }

  const Vocabulary& v = tables_->vocabulary;
  std::vector<TokenId> out;
  if (add_special && v.add_bos) out.push_back(v.bos);
  std::size_t done = 0;
  for (const SpecialMatch& match : tables_->special->find(text, control_ranges)) {
    if (match.begin > done) {
      KVFERRY_TRY(tables_->append(text.substr(done, match.begin - done), out));
    }
    out.push_back(match.id);
    done = match.begin + match.size;
  }
  if (done < text.size()) KVFERRY_TRY(tables_->append(text.substr(done), out));
  if (add_special && v.add_eos) out.push_back(v.eos);
  return out;
}

Result<std::string> Tokenizer::piece(TokenId token, bool unparse_special) const {
  if (token >= tables_->pieces.size()) {
    return Error(ErrorCode::kInvalidArgument, "token " + std::to_string(token) +
                                                  " is not in the vocabulary of " +
                                                  std::to_string(tables_->pieces.size()));
  }
  if (tables_->hidden[token] && !unparse_special) return std::string();
  return tables_->pieces[token];
}

Result<std::string> Tokenizer::detokenize(Span<const TokenId> tokens,
                                          DetokenizeOptions options) const {
  const Vocabulary& v = tables_->vocabulary;
  bool drop_space = v.add_space_prefix;
  if (options.remove_special) {
    if (v.add_bos && !tokens.empty() && tokens.front() == v.bos) {
      tokens = tokens.subspan(1);
      drop_space = false;
    }
    if (v.add_eos && !tokens.empty() && tokens.back() == v.eos) {
      tokens = tokens.first(tokens.size() - 1);
    }
  }
  std::string text;
  for (const TokenId token : tokens) {
    KVFERRY_ASSIGN(const std::string bytes, piece(token, options.unparse_special));
    const bool drop = drop_space && !bytes.empty() && bytes[0] == ' ';
    text.append(bytes, drop ? 1 : 0, std::string::npos);
    drop_space = false;
  }
  if (tables_->byte_pair && tables_->byte_pair->cleans_spaces()) return clean_spaces(text);
  return text;
}

const Vocabulary& Tokenizer::vocabulary() const {
  return tables_->vocabulary;
}

TokenId Tokenizer::find(std::string_view stored_text) const {
  const auto found = tables_->id_of_text.find(stored_text);
  return found == tables_->id_of_text.end() ? kNoToken : found->second;
}

bool Tokenizer::ends_generation(TokenId token) const {
  return token < tables_->ends_generation.size() && tables_->ends_generation[token];
}

}  // namespace kvferry
