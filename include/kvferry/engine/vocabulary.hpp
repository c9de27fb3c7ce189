// Vocabulary: what a GGUF file says about its tokens, checked, as plain data.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "kvferry/cache/source_sink.hpp"
#include "kvferry/core/result.hpp"

namespace kvferry {

class GgufFile;

// How text becomes tokens.
enum class TokenizerModel : std::uint8_t {
  kBytePairEncoding,  // GGUF "gpt2": byte-level BPE, merges by rank
  kSentencePiece,     // GGUF "llama": merges by token score, byte fallback
};

// The numbers are those of GGUF's tokenizer.ggml.token_type.
enum class TokenType : std::uint8_t {
  kNormal = 1,
  kUnknown = 2,
  kControl = 3,      // matched in text only on request (parse_special)
  kUserDefined = 4,  // always matched in text, before anything else
  kUnused = 5,
  kByte = 6,  // SentencePiece byte fallback, "<0x00>" to "<0xFF>"
};

// The id that stands for "this vocabulary has no such token".
constexpr TokenId kNoToken = 0xffffffffu;

// Caps on what a file may declare.
constexpr std::size_t kMaxVocabularyTokens = std::size_t{1} << 21;
constexpr std::size_t kMaxMerges = std::size_t{1} << 22;
constexpr std::size_t kMaxTokenBytes = std::size_t{1} << 16;
constexpr std::size_t kMaxChatTemplateBytes = std::size_t{1} << 20;

struct Vocabulary {
  TokenizerModel model = TokenizerModel::kBytePairEncoding;
  std::string pre_tokenizer;  // "smollm", "llama-bpe", …; unused by SentencePiece
  std::vector<std::string>
      tokens;                    // [vocab] as stored: BPE byte-encoded, SentencePiece with U+2581
  std::vector<TokenType> types;  // [vocab]
  std::vector<float> scores;     // [vocab]; SentencePiece only, else empty
  std::vector<std::string> merges;  // "left right" in order of rank; BPE only

  TokenId bos = kNoToken;      // beginning of text
  TokenId eos = kNoToken;      // end of text
  TokenId eot = kNoToken;      // end of turn
  TokenId eom = kNoToken;      // end of message
  TokenId unknown = kNoToken;  // what SentencePiece writes for bytes without a token
  bool add_bos = false;        // tokenising with add_special puts bos first
  bool add_eos = false;        // … and eos last
  // SentencePiece: a space is put before the text, and again after every special token.
  bool add_space_prefix = false;

  std::string chat_template;  // Jinja source; empty when the file has none
};

// What a Tokenizer relies on: lengths that agree, ids inside of the vocabulary, scores that are
// numbers, a bos and an eos where they are to be added. kMalformed or kResourceExhausted; the
// message names the key that a file would have it from.
Status validate(const Vocabulary& vocabulary);

// Reads the tokenizer.* keys of a model file. kMalformed (wrong type, ids or lengths out of range,
// a required key missing), kUnsupported (another tokenizer model), kResourceExhausted (a cap); the
// message names the key.
Result<Vocabulary> vocabulary_from(const GgufFile& file);

}  // namespace kvferry
