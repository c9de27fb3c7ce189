// The tokenizer's rules, on small vocabularies made here.
#include "kvferry/engine/tokenizer.hpp"

#include <functional>
#include <limits>
#include <string>
#include <vector>

#include "tokenizer_golden.hpp"

using kvferry::ErrorCode;
using kvferry::kNoToken;
using kvferry::TextPart;
using kvferry::TokenId;
using kvferry::Tokenizer;
using kvferry::TokenizerModel;
using kvferry::TokenType;
using kvferry::Vocabulary;
using Ids = std::vector<TokenId>;

namespace {

TokenId add(Vocabulary& v, const std::string& text, TokenType type = TokenType::kNormal,
            float score = 0.0f) {
  v.tokens.push_back(text);
  v.types.push_back(type);
  if (v.model == TokenizerModel::kSentencePiece) v.scores.push_back(score);
  return static_cast<TokenId>(v.tokens.size() - 1);
}

// Ids 0 to 25 are the letters a to z.
Vocabulary letters() {
  Vocabulary v;
  v.pre_tokenizer = "gpt-2";
  for (char c = 'a'; c <= 'z'; ++c) add(v, std::string(1, c));
  return v;
}

Ids ids_of(const Vocabulary& v, const std::string& text, kvferry::TokenizeOptions options = {}) {
  return Tokenizer::create(v).value().tokenize(text, options).value();
}

}  // namespace

TEST_CASE("merges go by rank, the leftmost of equals first") {
  Vocabulary v = letters();
  const TokenId ab = add(v, "ab");
  const TokenId bc = add(v, "bc");
  const TokenId aa = add(v, "aa");
  const TokenId abc = add(v, "abc");
  v.merges = {"b c", "a b", "a a", "a bc"};
  CHECK(ids_of(v, "abc") == Ids{abc});
  CHECK(ids_of(v, "abab") == Ids{ab, ab});
  CHECK(ids_of(v, "aaa") == Ids{aa, 0});
  CHECK(ids_of(v, "bcb") == Ids{bc, 1});
  v.merges = {"a b", "b c", "a bc"};
  CHECK(ids_of(v, "abc") == Ids{ab, 2});
}

TEST_CASE("a word that is a token is taken whole only where merges are ignored") {
  Vocabulary v = letters();
  const TokenId word = add(v, "xyz");
  CHECK(ids_of(v, "xyz") == Ids{23, 24, 25});
  v.pre_tokenizer = "llama-bpe";
  CHECK(ids_of(v, "xyz") == Ids{word});
  CHECK(ids_of(v, "xyzx") == Ids{23, 24, 25, 23});
}

TEST_CASE("special tokens: the longest first, control tokens on request") {
  Vocabulary v = letters();
  const TokenId control = add(v, "<c>", TokenType::kControl);
  const TokenId user = add(v, "<u>", TokenType::kUserDefined);
  const TokenId longer = add(v, "<c><u>", TokenType::kControl);
  for (const char c : std::string("<>")) add(v, std::string(1, c));
  const TokenId less = 29;
  const TokenId more = 30;
  CHECK(ids_of(v, "a<u>b") == Ids{0, user, 1});
  CHECK(ids_of(v, "<c>") == Ids{less, 2, more});
  CHECK(ids_of(v, "<c>", {false, true}) == Ids{control});
  CHECK(ids_of(v, "<c><u><c>", {false, true}) == Ids{longer, control});
  CHECK(ids_of(v, "<c><u>") == Ids{less, 2, more, user});

  const Tokenizer t = Tokenizer::create(v).value();
  const std::vector<TextPart> parts = {
      {"<c>", true}, {"<c", false}, {">", true}, {"<", true}, {"c>", true}};
  CHECK(t.tokenize(parts).value() == Ids{control, less, 2, more, control});
  CHECK(t.piece(control).value() == "<c>");
  CHECK(t.piece(control, false).value().empty());
  CHECK(t.piece(user, false).value() == "<u>");
  CHECK(t.find("<u>") == user);
  CHECK(t.find("<x>") == kNoToken);
}

TEST_CASE("bos and eos are added and removed as the vocabulary says") {
  Vocabulary v = letters();
  v.bos = add(v, "<s>", TokenType::kControl);
  v.eos = add(v, "</s>", TokenType::kControl);
  CHECK(ids_of(v, "a", {true, false}) == Ids{0});
  v.add_bos = v.add_eos = true;
  const Tokenizer t = Tokenizer::create(v).value();
  CHECK(t.tokenize("a", {true, false}).value() == Ids{v.bos, 0, v.eos});
  CHECK(t.tokenize("", {true, false}).value() == Ids{v.bos, v.eos});
  CHECK(t.tokenize("a").value() == Ids{0});
  CHECK(t.detokenize(Ids{v.bos, 0, v.eos}).value() == "<s>a</s>");
  CHECK(t.detokenize(Ids{v.bos, 0, v.eos}, {true, true}).value() == "a");
  CHECK(t.detokenize(Ids{v.bos, 0, v.eos}, {false, false}).value() == "a");
  CHECK(t.ends_generation(v.eos));
  CHECK(!t.ends_generation(v.bos));
  CHECK(!t.ends_generation(kNoToken));
}

TEST_CASE("spaces before punctuation go where the vocabulary's family wants it") {
  Vocabulary v;
  v.pre_tokenizer = "gpt-2";
  const TokenId text = add(v, " a ' b 's c 't d 're ? !", TokenType::kUserDefined);
  CHECK(Tokenizer::create(v).value().detokenize(Ids{text}).value() == " a'b's c 't d're?!");
  v.pre_tokenizer = "qwen2";
  CHECK(Tokenizer::create(v).value().detokenize(Ids{text}).value() == v.tokens[text]);
}

TEST_CASE("SentencePiece merges by score and falls back to bytes") {
  Vocabulary v;
  v.model = TokenizerModel::kSentencePiece;
  v.unknown = add(v, "<unk>", TokenType::kUnknown);
  const TokenId space = add(v, "\xe2\x96\x81", TokenType::kNormal, -9);
  const TokenId a = add(v, "a", TokenType::kNormal, -9);
  const TokenId b = add(v, "b", TokenType::kNormal, -9);
  const TokenId ab = add(v, "ab", TokenType::kNormal, -2);
  const TokenId space_a = add(v,
                              "\xe2\x96\x81"
                              "a",
                              TokenType::kNormal, -1);
  const TokenId byte = add(v, "<0xC3>", TokenType::kByte);
  CHECK(ids_of(v, "ab") == Ids{ab});
  v.add_space_prefix = true;
  CHECK(ids_of(v, "ab") == Ids{space_a, b});
  CHECK(ids_of(v, "").empty());
  CHECK(ids_of(v, " a") == Ids{space, space_a});
  CHECK(ids_of(v, "a\xc3") == Ids{space_a, byte});
  CHECK(ids_of(v, "a\xff") == Ids{space_a, v.unknown});
  const TokenId mark = add(v, "|", TokenType::kUserDefined);
  CHECK(ids_of(v, "a|a") == Ids{space_a, mark, space_a});
  CHECK(Tokenizer::create(v).value().detokenize(Ids{space_a, byte, a}).value() ==
        "a\xc3"
        "a");

  v.unknown = kNoToken;
  const auto refused = Tokenizer::create(v).value().tokenize("\xff");
  REQUIRE(!refused.ok());
  CHECK(refused.error().code == ErrorCode::kUnsupported);
  CHECK(refused.error().message.find("<0xFF>") != std::string::npos);
}

TEST_CASE("long texts without a place to cut") {
  const std::string golden = std::string(KVFERRY_GOLDEN_DIR) + "/tiny/";
  const std::string name = GENERATE(as<std::string>(), "tiny-llama-spm-f16.gguf",
                                    "tiny-llama3-ropefreqs-bf16.gguf", "tiny-qwen2-q8_0.gguf");
  const Tokenizer t = kvferry_test::load_tokenizer(golden + name);
  for (const std::string& unit : std::vector<std::string>{"a", "ab", " ", "\n ", "1", "<", "é"}) {
    std::string text;
    while (text.size() < 300000) text += unit;
    INFO(name << " " << unit);
    std::string joined;
    for (const TokenId id : t.tokenize(text).value()) joined += t.piece(id).value();
    const bool prefixed = t.vocabulary().add_space_prefix;
    CHECK(joined == (prefixed ? " " : "") + text);
  }
  const std::string too_long(kvferry::kMaxTextBytes + 1, 'a');
  const auto refused = t.tokenize(too_long);
  REQUIRE(!refused.ok());
  CHECK(refused.error().code == ErrorCode::kResourceExhausted);
}

TEST_CASE("ids outside of the vocabulary are refused") {
  const Tokenizer t = Tokenizer::create(letters()).value();
  CHECK(t.piece(26).error().code == ErrorCode::kInvalidArgument);
  CHECK(t.piece(kNoToken).error().code == ErrorCode::kInvalidArgument);
  CHECK(t.detokenize(Ids{0, 26}).error().code == ErrorCode::kInvalidArgument);
}

TEST_CASE("vocabularies that make no sense are refused by name") {
  const auto refused = [](const std::function<void(Vocabulary&)>& change, ErrorCode code,
                          const std::string& says) {
    Vocabulary v = letters();
    change(v);
    const auto result = Tokenizer::create(v);
    INFO(says);
    REQUIRE(!result.ok());
    INFO(result.error().message);
    CHECK(result.error().code == code);
    CHECK(result.error().message.find(says) != std::string::npos);
  };
  using Code = ErrorCode;
  refused([](Vocabulary& v) { v.pre_tokenizer = "klingon"; }, Code::kUnsupported, "\"klingon\"");
  refused([](Vocabulary& v) { v.tokens.clear(); }, Code::kMalformed, "no tokens");
  refused([](Vocabulary& v) { v.tokens[3] = "a"; }, Code::kMalformed, "tokens 0 and 3");
  refused([](Vocabulary& v) { v.types.pop_back(); }, Code::kMalformed, "token_type");
  refused([](Vocabulary& v) { v.bos = 26; }, Code::kMalformed, "bos_token_id");
  refused([](Vocabulary& v) { v.add_eos = true; }, Code::kMalformed, "add_eos_token");
  refused([](Vocabulary& v) { v.merges = {"a b", "ab"}; }, Code::kMalformed, "entry 1");
  refused([](Vocabulary& v) { v.merges = {" "}; }, Code::kMalformed, "merges");
  refused([](Vocabulary& v) { v.model = TokenizerModel::kSentencePiece; }, Code::kMalformed,
          "scores");
  refused(
      [](Vocabulary& v) {
        v.model = TokenizerModel::kSentencePiece;
        v.scores.assign(v.tokens.size(), 0.0f);
        v.scores[5] = std::numeric_limits<float>::quiet_NaN();
      },
      Code::kMalformed, "entry 5");
}
