// UTF-8 and character classes, as the tokenizers of Llama-family models see them.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace kvferry {

// The class bytes of code points above ASCII; an ASCII character is its own class byte. Text as
// class bytes is what the pre-tokenizers' expressions work on (pre_tokenizer.cpp), so that the
// result depends on the Unicode version of one table and on no library's.
constexpr char kLetterClass = '\x80';
constexpr char kNumberClass = '\x81';
constexpr char kPunctuationClass = '\x82';
constexpr char kSpaceClass = '\x83';
constexpr char kOtherClass = '\x84';

// The class byte of any code point (unicode_classes.cpp).
char class_of(std::uint32_t code_point);

constexpr std::uint32_t kReplacementCharacter = 0xfffd;
constexpr std::uint32_t kMaxCodePoint = 0x10ffff;

struct DecodedCharacter {
  std::uint32_t code_point = kReplacementCharacter;
  std::size_t size = 1;  // bytes
};

// The character at `offset` (inside of `text`). Lenient as byte-level BPE needs it: overlong forms
// and encoded surrogates count as characters; any other byte that starts none is U+FFFD.
DecodedCharacter decode_character(std::string_view text, std::size_t offset);

// UTF-8 of a code point up to kMaxCodePoint.
void append_utf8(std::uint32_t code_point, std::string& out);

// Byte-level BPE writes each byte as one printable character: itself, or one from U+0100 on.
struct ByteCharacters {
  std::array<std::string, 256> of_byte;  // UTF-8
  // The byte that a character stands for, or -1.
  static int byte_of(std::uint32_t code_point);

  ByteCharacters();
};

// The tables, built once.
const ByteCharacters& byte_characters();

}  // namespace kvferry
