// The words that each pre-tokenizer cuts, and the tables that they rest on.
#include "src/engine/tokenizer/pre_tokenizer.hpp"

#include <string>
#include <vector>

#include <catch2/catch.hpp>

#include "src/engine/tokenizer/unicode.hpp"

using Words = std::vector<std::string>;

namespace {

Words words(const std::string& name, const std::string& text) {
  const auto* traits = kvferry::pre_tokenizer_traits(name);
  REQUIRE(traits != nullptr);
  std::string classes;
  std::vector<std::size_t> begins;
  for (std::size_t i = 0; i < text.size();) {
    const kvferry::DecodedCharacter c = kvferry::decode_character(text, i);
    classes.push_back(kvferry::class_of(c.code_point));
    begins.push_back(i);
    i += c.size;
  }
  begins.push_back(text.size());
  const auto pre_tokenizer = kvferry::PreTokenizer::create(*traits).value();
  Words out;
  std::size_t begin = 0;
  for (const std::uint32_t end : pre_tokenizer.split(classes).value()) {
    out.push_back(text.substr(begin, begins[end] - begin));
    begin = begins[end];
  }
  REQUIRE(begin == text.size());
  return out;
}

}  // namespace

TEST_CASE("gpt-2 cuts words, numbers, signs and spaces") {
  CHECK(words("gpt-2", "Hello world's 1234!?  x") ==
        Words{"Hello", " world", "'s", " 1234", "!?", " ", " x"});
  CHECK(words("gpt-2", "I'M don't") == Words{"I", "'", "M", " don", "'t"});
  CHECK(words("gpt-2", "a\n\n b \n") == Words{"a", "\n\n", " b", " \n"});
  CHECK(words("gpt-2", " \xc2\xa0\xe3\x80\x80 x") == Words{" \xc2\xa0\xe3\x80\x80", " x"});
}

TEST_CASE("smollm cuts every digit first") {
  CHECK(words("smollm", "a 12b") == Words{"a", " ", "1", "2", "b"});
  CHECK(words("smollm", "x\xc2\xb2 \xe2\x85\xa7") == Words{"x", "\xc2\xb2", " ", "\xe2\x85\xa7"});
}

TEST_CASE("llama-bpe and qwen2 differ in numbers only") {
  CHECK(words("llama-bpe", "12345 6") == Words{"123", "45", " ", "6"});
  CHECK(words("qwen2", "123 4") == Words{"1", "2", "3", " ", "4"});
  for (const char* name : {"llama-bpe", "qwen2"}) {
    CHECK(words(name, "I'M we'LL'x") == Words{"I", "'M", " we", "'LL", "'x"});
    CHECK(words(name, "f(x);\n\n  y") == Words{"f", "(x", ");\n\n", " ", " y"});
    CHECK(words(name, "a  \n \n  b") == Words{"a", "  \n \n", " ", " b"});
    CHECK(words(name, "#tag\tz") == Words{"#tag", "\tz"});
  }
}

TEST_CASE("default cuts runs of punctuation, and digits by three") {
  CHECK(words("default", "a.b, `c` 12345") ==
        Words{"a", ".", "b", ",", " `", "c", "`", " ", "123", "45"});
  CHECK(words("", "x == y") == words("default", "x == y"));
}

TEST_CASE("nothing and unknown names") {
  CHECK(words("gpt-2", "").size() <= 1);
  CHECK(kvferry::pre_tokenizer_traits("klingon") == nullptr);
}

TEST_CASE("characters as llama.cpp decodes and classes them") {
  const auto decoded = [](const std::string& text) { return kvferry::decode_character(text, 0); };
  CHECK(decoded("\xf0\x9f\x98\x80").code_point == 0x1f600);
  CHECK(decoded("\xc0\x80").code_point == 0);           // overlong
  CHECK(decoded("\xed\xa0\x80").code_point == 0xd800);  // surrogate
  for (const char* bad : {"\x80", "\xff", "\xe4\xbd", "\xc3", "\xc3(", "\xf8\x88\x80\x80\x80",
                          "\xf4\x90\x80\x80", "\xf7\x98\x82\x8e"}) {
    CHECK(decoded(bad).code_point == kvferry::kReplacementCharacter);
    CHECK(decoded(bad).size == 1);
  }
  CHECK(kvferry::class_of('a') == 'a');
  CHECK(kvferry::class_of(0xe9) == kvferry::kLetterClass);
  CHECK(kvferry::class_of(0x301) == kvferry::kOtherClass);  // combining accent
  CHECK(kvferry::class_of(0x663) == kvferry::kNumberClass);
  CHECK(kvferry::class_of(0x3000) == kvferry::kSpaceClass);
  CHECK(kvferry::class_of(0x85) == kvferry::kSpaceClass);
  CHECK(kvferry::class_of(0x200b) == kvferry::kOtherClass);
  CHECK(kvferry::class_of(0x3001) == kvferry::kPunctuationClass);
  CHECK(kvferry::class_of(0x31350) == kvferry::kLetterClass);  // since Unicode 15.0
  CHECK(kvferry::class_of(0x2ebf0) == kvferry::kLetterClass);  // since 15.1
  CHECK(kvferry::class_of(0x1c89) == kvferry::kOtherClass);    // a letter since 16.0
  CHECK(kvferry::class_of(0x10ffff) == kvferry::kOtherClass);
}

TEST_CASE("every byte has its character") {
  const kvferry::ByteCharacters& characters = kvferry::byte_characters();
  for (int byte = 0; byte < 256; ++byte) {
    const auto c = kvferry::decode_character(characters.of_byte[static_cast<std::size_t>(byte)], 0);
    CHECK(kvferry::ByteCharacters::byte_of(c.code_point) == byte);
  }
  CHECK(characters.of_byte[' '] == "\xc4\xa0");
  CHECK(kvferry::ByteCharacters::byte_of(0x144) == -1);
  CHECK(kvferry::ByteCharacters::byte_of(' ') == -1);
}
