// How SentencePiece vocabularies write spaces and bytes.
#pragma once

#include <string>

namespace kvferry {

// U+2581 stands for a space.
constexpr const char* kSpaceSymbol = "\xe2\x96\x81";

// "<0x0A>" for 10.
inline std::string byte_token_text(unsigned char byte) {
  constexpr const char* kDigits = "0123456789ABCDEF";
  return std::string("<0x") + kDigits[byte >> 4] + kDigits[byte & 15] + ">";
}

// The byte of a byte token's text, or -1.
inline int byte_of_token_text(const std::string& text) {
  if (text.size() != 6 || text.compare(0, 3, "<0x") != 0 || text[5] != '>') return -1;
  int byte = 0;
  for (std::size_t i = 3; i < 5; ++i) {
    const char c = text[i];
    const int digit = c >= '0' && c <= '9'   ? c - '0'
                      : c >= 'A' && c <= 'F' ? c - 'A' + 10
                      : c >= 'a' && c <= 'f' ? c - 'a' + 10
                                             : -1;
    if (digit < 0) return -1;
    byte = byte * 16 + digit;
  }
  return byte;
}

}  // namespace kvferry
