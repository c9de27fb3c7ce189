#include "byte_pair_encoder.hpp"

#include "kvferry/core/quoted.hpp"

#include "unicode.hpp"

namespace kvferry {
namespace {

std::uint64_t pair_key(std::uint32_t left, std::uint32_t right) {
  return static_cast<std::uint64_t>(left) << 32 | right;
}

// Text with what is not UTF-8 replaced, in the two forms that are needed of it.
struct CheckedText {
  std::string bytes;
  std::string classes;                // a byte a character
  std::vector<std::uint32_t> begins;  // [characters + 1] byte offsets

  explicit CheckedText(std::string_view text) {
    bytes.reserve(text.size());
    classes.reserve(text.size());
    begins.reserve(text.size() + 1);
    for (std::size_t i = 0; i < text.size();) {
      const DecodedCharacter character = decode_character(text, i);
      begins.push_back(static_cast<std::uint32_t>(bytes.size()));
      classes.push_back(class_of(character.code_point));
      append_utf8(character.code_point, bytes);
      i += character.size;
    }
    begins.push_back(static_cast<std::uint32_t>(bytes.size()));
  }
};

}  // namespace

Result<BytePairEncoder> BytePairEncoder::create(const Vocabulary& vocabulary) {
  const PreTokenizerTraits* traits = pre_tokenizer_traits(vocabulary.pre_tokenizer);
  if (traits == nullptr) {
    return Error(ErrorCode::kUnsupported,
                 "tokenizer.ggml.pre: pre-tokenizer " + quoted(vocabulary.pre_tokenizer) +
                     " is not supported (default, gpt-2, smollm, llama-bpe and qwen2 are)");
  }
  KVFERRY_ASSIGN(PreTokenizer pre_tokenizer, PreTokenizer::create(*traits));
  BytePairEncoder encoder(*traits, std::move(pre_tokenizer));

  encoder.token_count_ = static_cast<std::uint32_t>(vocabulary.tokens.size());
  encoder.numbers_.reserve(vocabulary.tokens.size());
  for (std::uint32_t id = 0; id < encoder.token_count_; ++id) {
    if (!vocabulary.tokens[id].empty()) encoder.numbers_.emplace(vocabulary.tokens[id], id);
  }
  for (std::size_t byte = 0; byte < 256; ++byte) {
    encoder.number_of_byte_[byte] = encoder.intern(byte_characters().of_byte[byte]);
  }
  encoder.merges_.reserve(vocabulary.merges.size());
  for (std::size_t rank = 0; rank < vocabulary.merges.size(); ++rank) {
    const std::string& text = vocabulary.merges[rank];
    const std::size_t space = text.find(' ', 1);
    if (space == std::string::npos || space + 1 == text.size()) {
      return Error(ErrorCode::kMalformed, "tokenizer.ggml.merges: entry " + std::to_string(rank) +
                                              ", " + quoted(text) +
                                              ", is not two pieces with a space between");
    }
    const std::string left = text.substr(0, space);
    const std::string right = text.substr(space + 1);
    const Merge merge{static_cast<std::uint32_t>(rank), encoder.intern(left + right)};
    encoder.merges_.emplace(pair_key(encoder.intern(left), encoder.intern(right)), merge);
  }
  return encoder;
}

std::uint32_t BytePairEncoder::intern(const std::string& text) {
  const auto found = numbers_.find(text);
  if (found != numbers_.end()) return found->second;
  const auto number = static_cast<std::uint32_t>(token_count_ + pieces_.size());
  pieces_.push_back(text);
  numbers_.emplace(pieces_.back(), number);
  return number;
}

Status BytePairEncoder::encode(std::string_view text, std::vector<TokenId>& out) const {
  const CheckedText checked(text);
  KVFERRY_ASSIGN(const std::vector<std::uint32_t> ends, pre_tokenizer_.split(checked.classes));
  SymbolMerger merger;
  std::string characters;
  std::uint32_t begin = 0;
  for (const std::uint32_t character : ends) {
    const std::uint32_t end = checked.begins[character];
    encode_word(std::string_view(checked.bytes).substr(begin, end - begin), merger, characters,
                out);
    begin = end;
  }
  return {};
}

void BytePairEncoder::encode_word(std::string_view word, SymbolMerger& merger,
                                  std::string& characters, std::vector<TokenId>& out) const {
  if (traits_->ignore_merges) {
    characters.clear();
    for (const char byte : word) {
      characters += byte_characters().of_byte[static_cast<unsigned char>(byte)];
    }
    const auto whole = numbers_.find(characters);
    if (whole != numbers_.end() && whole->second < token_count_) {
      out.push_back(whole->second);
      return;
    }
  }
  merger.clear();
  for (std::size_t i = 0; i < word.size(); ++i) {
    merger.push(static_cast<std::uint32_t>(i), 1,
                number_of_byte_[static_cast<unsigned char>(word[i])]);
  }
  merger.run([this](const Symbol& left, const Symbol& right) -> const Merge* {
    const auto found = merges_.find(pair_key(left.id, right.id));
    return found == merges_.end() ? nullptr : &found->second;
  });
  merger.for_each([&](const Symbol& symbol) { emit(symbol.id, out); });
}

void BytePairEncoder::emit(std::uint32_t number, std::vector<TokenId>& out) const {
  if (number < token_count_) {
    out.push_back(number);
    return;
  }
  // A piece that is no token: its ASCII characters that are tokens, as llama.cpp does.
  for (const char& byte : pieces_[number - token_count_]) {
    const auto found = numbers_.find(std::string_view(&byte, 1));
    if (found != numbers_.end() && found->second < token_count_) out.push_back(found->second);
  }
}

}  // namespace kvferry
