#include "kvferry/engine/vocabulary.hpp"

#include <cmath>
#include <string_view>
#include <utility>

#include "kvferry/core/quoted.hpp"
#include "kvferry/engine/gguf.hpp"

#include "pre_tokenizer.hpp"
#include "token_names.hpp"

namespace kvferry {
namespace {

Error wrong(std::string_view key, const std::string& what) {
  return Error(ErrorCode::kMalformed, "key " + quoted(key) + ": " + what);
}

Status check_count(const GgufFile& file, std::string_view key, std::size_t cap) {
  const GgufEntry* entry = file.find(key);
  if (entry != nullptr && entry->count > cap) {
    return Error(ErrorCode::kResourceExhausted, "key " + quoted(key) + ": " +
                                                    std::to_string(entry->count) +
                                                    " entries; at most " + std::to_string(cap));
  }
  return {};
}

Result<std::vector<std::string>> read_strings(const GgufFile& file, std::string_view key,
                                              std::size_t cap) {
  KVFERRY_TRY(check_count(file, key, cap));
  KVFERRY_ASSIGN(const std::vector<std::string_view> views, file.strings(key));
  std::vector<std::string> strings;
  strings.reserve(views.size());
  for (std::size_t i = 0; i < views.size(); ++i) {
    if (views[i].size() > kMaxTokenBytes) {
      return wrong(key, "entry " + std::to_string(i) + " has " + std::to_string(views[i].size()) +
                            " bytes; at most " + std::to_string(kMaxTokenBytes));
    }
    strings.emplace_back(views[i]);
  }
  return strings;
}

Status check_length(std::string_view key, std::size_t length, std::size_t tokens) {
  if (length == tokens) return {};
  return wrong(key, std::to_string(length) + " entries for " + std::to_string(tokens) + " tokens");
}

Status read_types(const GgufFile& file, Vocabulary& v) {
  constexpr std::string_view kKey = "tokenizer.ggml.token_type";
  v.types.assign(v.tokens.size(), TokenType::kNormal);
  if (file.find(kKey) != nullptr) {
    KVFERRY_TRY(check_count(file, kKey, kMaxVocabularyTokens));
    KVFERRY_ASSIGN(const std::vector<std::int64_t> numbers, file.integers(kKey));
    KVFERRY_TRY(check_length(kKey, numbers.size(), v.tokens.size()));
    for (std::size_t i = 0; i < numbers.size(); ++i) {
      if (numbers[i] < 0 || numbers[i] > 6) {
        return wrong(kKey, "entry " + std::to_string(i) + " is " + std::to_string(numbers[i]) +
                               "; token types are 0 to 6");
      }
      // 0 is "undefined", which writes and matches nothing, as unused tokens do.
      v.types[i] = numbers[i] == 0 ? TokenType::kUnused : static_cast<TokenType>(numbers[i]);
    }
  }
  for (std::size_t i = 0; i < v.tokens.size(); ++i) {
    if (is_control_name(v.tokens[i])) v.types[i] = TokenType::kControl;
  }
  return {};
}

Status read_scores(const GgufFile& file, Vocabulary& v) {
  constexpr std::string_view kKey = "tokenizer.ggml.scores";
  KVFERRY_TRY(check_count(file, kKey, kMaxVocabularyTokens));
  KVFERRY_ASSIGN(v.scores, file.floats(kKey));
  return check_length(kKey, v.scores.size(), v.tokens.size());
}

// Leaves `id` as it is when the file does not have the key.
Status read_id(const GgufFile& file, std::string_view key, std::size_t tokens, TokenId& id) {
  if (file.find(key) != nullptr) {
    KVFERRY_ASSIGN(const std::uint64_t value, file.unsigned_integer(key));
    if (value >= tokens) {
      return wrong(key,
                   std::to_string(value) + " is not a token; there are " + std::to_string(tokens));
    }
    id = static_cast<TokenId>(value);
  }
  return {};
}

Status read_flag(const GgufFile& file, std::string_view key, bool& flag) {
  if (file.find(key) != nullptr) {
    KVFERRY_ASSIGN(flag, file.boolean(key));
  }
  return {};
}

// A special token that the file does not name, by the texts that model families use.
TokenId find_text(const Vocabulary& v, std::initializer_list<std::string_view> texts) {
  for (const std::string_view text : texts) {
    for (std::size_t i = 0; i < v.tokens.size(); ++i) {
      if (v.tokens[i] == text) return static_cast<TokenId>(i);
    }
  }
  return kNoToken;
}

Status read_special(const GgufFile& file, Vocabulary& v) {
  const std::size_t tokens = v.tokens.size();
  if (v.model == TokenizerModel::kSentencePiece && tokens > 2) {
    v.unknown = 0;
    v.bos = 1;
    v.eos = 2;
  }
  KVFERRY_TRY(read_id(file, "tokenizer.ggml.bos_token_id", tokens, v.bos));
  KVFERRY_TRY(read_id(file, "tokenizer.ggml.eos_token_id", tokens, v.eos));
  KVFERRY_TRY(read_id(file, "tokenizer.ggml.eot_token_id", tokens, v.eot));
  KVFERRY_TRY(read_id(file, "tokenizer.ggml.eom_token_id", tokens, v.eom));
  KVFERRY_TRY(read_id(file, "tokenizer.ggml.unknown_token_id", tokens, v.unknown));
  if (v.eot == kNoToken) v.eot = find_text(v, {"<|eot_id|>", "<|im_end|>", "<|end|>"});
  if (v.eom == kNoToken) v.eom = find_text(v, {"<|eom_id|>"});

  KVFERRY_TRY(read_flag(file, "tokenizer.ggml.add_bos_token", v.add_bos));
  KVFERRY_TRY(read_flag(file, "tokenizer.ggml.add_eos_token", v.add_eos));
  KVFERRY_TRY(read_flag(file, "tokenizer.ggml.add_space_prefix", v.add_space_prefix));
  return {};
}

}  // namespace

Status validate(const Vocabulary& v) {
  const auto invalid = [](const std::string& message) {
    return Error(ErrorCode::kMalformed, message);
  };
  const std::size_t count = v.tokens.size();
  if (count == 0) return invalid("tokenizer.ggml.tokens: no tokens");
  if (count > kMaxVocabularyTokens) {
    return Error(ErrorCode::kResourceExhausted, "tokenizer.ggml.tokens: " + std::to_string(count) +
                                                    " tokens; at most " +
                                                    std::to_string(kMaxVocabularyTokens));
  }
  if (v.types.size() != count) {
    return invalid("tokenizer.ggml.token_type: " + std::to_string(v.types.size()) +
                   " entries for " + std::to_string(count) + " tokens");
  }
  if (v.model == TokenizerModel::kSentencePiece) {
    if (v.scores.size() != count) {
      return invalid("tokenizer.ggml.scores: " + std::to_string(v.scores.size()) + " entries for " +
                     std::to_string(count) + " tokens");
    }
    for (std::size_t i = 0; i < count; ++i) {
      if (std::isnan(v.scores[i])) {
        return invalid("tokenizer.ggml.scores: entry " + std::to_string(i) + " is not a number");
      }
    }
  }
  const std::pair<const char*, TokenId> ids[] = {
      {"bos", v.bos}, {"eos", v.eos}, {"eot", v.eot}, {"eom", v.eom}, {"unknown", v.unknown}};
  for (const auto& id : ids) {
    if (id.second != kNoToken && id.second >= count) {
      return invalid(std::string("tokenizer.ggml.") + id.first +
                     "_token_id: " + std::to_string(id.second) + " is not a token; there are " +
                     std::to_string(count));
    }
  }
  if (v.add_bos && v.bos == kNoToken) {
    return invalid("tokenizer.ggml.add_bos_token is set, but there is no bos_token_id");
  }
  if (v.add_eos && v.eos == kNoToken) {
    return invalid("tokenizer.ggml.add_eos_token is set, but there is no eos_token_id");
  }
  return {};
}

Result<Vocabulary> vocabulary_from(const GgufFile& file) {
  Vocabulary v;
  KVFERRY_ASSIGN(const std::string_view model, file.string("tokenizer.ggml.model"));
  if (model == "gpt2") {
    v.model = TokenizerModel::kBytePairEncoding;
  } else if (model == "llama") {
    v.model = TokenizerModel::kSentencePiece;
  } else {
    return Error(ErrorCode::kUnsupported, "key \"tokenizer.ggml.model\": tokenizer " +
                                              quoted(model) +
                                              " is not supported (gpt2 and llama are)");
  }
  KVFERRY_ASSIGN(v.tokens, read_strings(file, "tokenizer.ggml.tokens", kMaxVocabularyTokens));
  KVFERRY_TRY(read_types(file, v));
  if (v.model == TokenizerModel::kBytePairEncoding) {
    if (file.find("tokenizer.ggml.pre") != nullptr) {
      KVFERRY_ASSIGN(const std::string_view pre, file.string("tokenizer.ggml.pre"));
      v.pre_tokenizer = std::string(pre);
    }
    const PreTokenizerTraits* traits = pre_tokenizer_traits(v.pre_tokenizer);
    v.add_bos = traits != nullptr && traits->adds_bos;
    KVFERRY_ASSIGN(v.merges, read_strings(file, "tokenizer.ggml.merges", kMaxMerges));
  } else {
    v.add_bos = true;
    v.add_space_prefix = true;
    KVFERRY_TRY(read_scores(file, v));
  }
  KVFERRY_TRY(read_special(file, v));
  if (file.find("tokenizer.chat_template") != nullptr) {
    KVFERRY_ASSIGN(const std::string_view text, file.string("tokenizer.chat_template"));
    if (text.size() > kMaxChatTemplateBytes) {
      return Error(ErrorCode::kResourceExhausted,
                   "key \"tokenizer.chat_template\": " + std::to_string(text.size()) +
                       " bytes; at most " + std::to_string(kMaxChatTemplateBytes));
    }
    v.chat_template = std::string(text);
  }
  KVFERRY_TRY(validate(v));
  return v;
}

}  // namespace kvferry
