// Tokenizer: text to token ids and back, for the vocabularies that Llama-family GGUF files carry.
#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "kvferry/core/result.hpp"
#include "kvferry/core/span.hpp"
#include "kvferry/engine/vocabulary.hpp"

namespace kvferry {

struct TokenizeOptions {
  // Put the vocabulary's bos before and its eos after the tokens, where the model wants them.
  bool add_special = false;
  // Match control tokens ("<|im_end|>") in the text. Leave it off for text that comes from outside,
  // or the text can speak as the system. User-defined tokens are always matched.
  bool parse_special = false;
};

// A text may be put together from parts of different trust, e.g. a template's markers and a user's
// message.
struct TextPart {
  std::string_view text;
  bool parse_special = false;
};

// Longer texts are refused.
constexpr std::size_t kMaxTextBytes = std::size_t{1} << 26;

struct DetokenizeOptions {
  // Drop a leading bos and a trailing eos if the vocabulary would have added them.
  bool remove_special = false;
  // Write control tokens as text instead of nothing.
  bool unparse_special = true;
};

// Token ids are those of llama.cpp for the same file. Immutable once created; copies share their
// tables, and any number of threads may use one.
class Tokenizer {
 public:
  // kUnsupported names a pre-tokenizer that is not one of: default, gpt-2, smollm, llama-bpe,
  // qwen2 (and their synonyms). kMalformed when two tokens have the same text, a merge is not two
  // pieces, or validate() refuses the vocabulary.
  static Result<Tokenizer> create(Vocabulary vocabulary);

  // Any bytes, NUL included. BPE reads every byte that is not UTF-8 as U+FFFD (encoded surrogates
  // pass) and leaves out bytes that the vocabulary has no token for; SentencePiece keeps them, as
  // byte tokens.
  // Time grows as n log n, also for text without spaces. kResourceExhausted for more than
  // kMaxTextBytes, kUnsupported when SentencePiece meets a byte for which the vocabulary has
  // neither a token nor an unknown token.
  Result<std::vector<TokenId>> tokenize(std::string_view text, TokenizeOptions options = {}) const;

  // The parts one after the other as one text, so that tokens may reach across their borders; a
  // control token is matched only where all of its bytes have parse_special.
  Result<std::vector<TokenId>> tokenize(Span<const TextPart> parts, bool add_special = false) const;

  // The bytes of one token, which need not be whole characters: StreamingDetokenizer puts them
  // together. kInvalidArgument for an id outside of the vocabulary.
  Result<std::string> piece(TokenId token, bool unparse_special = true) const;

  // The text of a whole sequence. Unlike pieces put one after the other it drops the space that
  // SentencePiece put before the first token, and, for vocabularies that ask for it, spaces before
  // punctuation.
  Result<std::string> detokenize(Span<const TokenId> tokens, DetokenizeOptions options = {}) const;

  const Vocabulary& vocabulary() const;
  std::size_t size() const { return vocabulary().tokens.size(); }
  // The id of a token by its stored text, or kNoToken.
  TokenId find(std::string_view stored_text) const;
  // True for tokens after which a generation stops: eos, eot, eom, and the control tokens that
  // model families use for the same end ("<|im_end|>", "<|eot_id|>", …).
  bool ends_generation(TokenId token) const;

 private:
  struct Tables;
  explicit Tokenizer(std::shared_ptr<const Tables> tables);
  std::shared_ptr<const Tables> tables_;
};

}  // namespace kvferry
