#include "unicode.hpp"

namespace kvferry {
namespace {

// Bytes that stand for themselves in byte-level BPE.
bool is_printable(std::uint32_t byte) {
  return (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte <= 0xac) ||
         (byte >= 0xae && byte <= 0xff);
}

}  // namespace

DecodedCharacter decode_character(std::string_view text, std::size_t offset) {
  const auto byte = [&](std::size_t i) {
    return static_cast<std::uint32_t>(static_cast<unsigned char>(text[offset + i]));
  };
  const std::uint32_t first = byte(0);
  if (first < 0x80) return {first, 1};
  std::size_t size = 0;
  std::uint32_t code_point = 0;
  if ((first & 0xe0) == 0xc0) {
    size = 2;
    code_point = first & 0x1f;
  } else if ((first & 0xf0) == 0xe0) {
    size = 3;
    code_point = first & 0x0f;
  } else if ((first & 0xf8) == 0xf0) {
    size = 4;
    code_point = first & 0x07;
  } else {
    return {};
  }
  if (size > text.size() - offset) return {};
  for (std::size_t i = 1; i < size; ++i) {
    if ((byte(i) & 0xc0) != 0x80) return {};
    code_point = code_point << 6 | (byte(i) & 0x3f);
  }
  if (code_point > kMaxCodePoint) return {};
  return {code_point, size};
}

void append_utf8(std::uint32_t code_point, std::string& out) {
  const auto put = [&](std::uint32_t byte) { out.push_back(static_cast<char>(byte)); };
  if (code_point < 0x80) {
    put(code_point);
  } else if (code_point < 0x800) {
    put(0xc0 | code_point >> 6);
    put(0x80 | (code_point & 0x3f));
  } else if (code_point < 0x10000) {
    put(0xe0 | code_point >> 12);
    put(0x80 | (code_point >> 6 & 0x3f));
    put(0x80 | (code_point & 0x3f));
  } else {
    put(0xf0 | code_point >> 18);
    put(0x80 | (code_point >> 12 & 0x3f));
    put(0x80 | (code_point >> 6 & 0x3f));
    put(0x80 | (code_point & 0x3f));
  }
}

ByteCharacters::ByteCharacters() {
  std::uint32_t next = 0x100;
  for (std::uint32_t byte = 0; byte < 256; ++byte) {
    append_utf8(is_printable(byte) ? byte : next++, of_byte[byte]);
  }
}

int ByteCharacters::byte_of(std::uint32_t code_point) {
  if (code_point < 0x100) return is_printable(code_point) ? static_cast<int>(code_point) : -1;
  // The unprintable bytes 0x00-0x20, 0x7f-0xa0 and 0xad follow one another from U+0100 on.
  const std::uint32_t n = code_point - 0x100;
  if (n < 0x21) return static_cast<int>(n);
  if (n < 0x21 + 0x22) return static_cast<int>(n - 0x21 + 0x7f);
  return n == 0x21 + 0x22 ? 0xad : -1;
}

const ByteCharacters& byte_characters() {
  static const ByteCharacters tables;
  return tables;
}

}  // namespace kvferry
