// The streaming detokenizer on a vocabulary of single bytes.
#include "kvferry/engine/detokenizer.hpp"

#include <string>
#include <vector>

#include <catch2/catch.hpp>

using kvferry::StreamingDetokenizer;
using kvferry::TokenId;
using kvferry::Tokenizer;
using kvferry::TokenType;
using kvferry::Vocabulary;

namespace {

constexpr TokenId kEnd = 256;
constexpr TokenId kSpaceWord = 257;

// Ids 0 to 255 are the bytes.
Tokenizer byte_tokenizer() {
  Vocabulary v;
  v.model = kvferry::TokenizerModel::kSentencePiece;
  const char* digits = "0123456789ABCDEF";
  for (int i = 0; i < 256; ++i) {
    v.tokens.push_back(std::string("<0x") + digits[i >> 4] + digits[i & 15] + ">");
    v.types.push_back(TokenType::kByte);
  }
  v.tokens.push_back("<|end|>");
  v.types.push_back(TokenType::kControl);
  v.tokens.push_back("\xe2\x96\x81w");
  v.types.push_back(TokenType::kNormal);
  v.scores.assign(v.tokens.size(), 0.0f);
  v.add_space_prefix = true;
  return Tokenizer::create(std::move(v)).value();
}

// What each byte brings out, then flush().
std::vector<std::string> streamed(const std::string& bytes) {
  StreamingDetokenizer detokenizer(byte_tokenizer());
  std::vector<std::string> out;
  for (const char c : bytes) {
    out.push_back(detokenizer.push(static_cast<unsigned char>(c)).value());
  }
  out.push_back(detokenizer.flush());
  return out;
}

const std::string kReplacement = "\xef\xbf\xbd";

}  // namespace

TEST_CASE("characters come out whole") {
  CHECK(streamed("aé") == std::vector<std::string>{"a", "", "é", ""});
  CHECK(streamed("😀!") == std::vector<std::string>{"", "", "", "😀", "!", ""});
  CHECK(streamed(std::string("\0b", 2)) == std::vector<std::string>{std::string(1, '\0'), "b", ""});
}

TEST_CASE("ill-formed sequences become one U+FFFD each") {
  const std::string& r = kReplacement;
  CHECK(streamed("\xff") == std::vector<std::string>{r, ""});
  CHECK(streamed("\x80\x80") == std::vector<std::string>{r, r, ""});
  CHECK(streamed("\xe4\xbd!") == std::vector<std::string>{"", "", r + "!", ""});
  CHECK(streamed("\xf0\x9f\x98") == std::vector<std::string>{"", "", "", r});
  CHECK(streamed("\xc0\xaf") == std::vector<std::string>{r, r, ""});              // overlong
  CHECK(streamed("\xed\xa0\x80") == std::vector<std::string>{"", r + r, r, ""});  // surrogate
  CHECK(streamed("\xf4\x90\x80\x80") == std::vector<std::string>{"", r + r, r, r, ""});
  CHECK(streamed("\xe4\xc3\xa9") == std::vector<std::string>{"", r, "é", ""});
}

TEST_CASE("control tokens are hidden unless asked for") {
  StreamingDetokenizer hidden(byte_tokenizer());
  CHECK(hidden.push(kEnd).value().empty());
  StreamingDetokenizer shown(byte_tokenizer(), true);
  CHECK(shown.push(kEnd).value() == "<|end|>");
}

TEST_CASE("the first space goes only at the start of a text") {
  StreamingDetokenizer start(byte_tokenizer(), false, true);
  CHECK(start.push(kSpaceWord).value() == "w");
  CHECK(start.push(kSpaceWord).value() == " w");
  StreamingDetokenizer middle(byte_tokenizer());
  CHECK(middle.push(kSpaceWord).value() == " w");
}

TEST_CASE("an id outside of the vocabulary changes nothing") {
  StreamingDetokenizer detokenizer(byte_tokenizer());
  CHECK(detokenizer.push(0xc3).value().empty());
  REQUIRE(!detokenizer.push(258).ok());
  CHECK(detokenizer.push(0xa9).value() == "é");
}
