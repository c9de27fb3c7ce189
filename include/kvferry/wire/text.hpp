// Text that a peer sent or will get: UTF-8, and lines that are safe to show on a terminal.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "kvferry/core/quoted.hpp"

namespace kvferry::wire {

inline bool is_utf8(std::string_view s) {
  while (!s.empty()) {
    const std::size_t length = utf8_length(s);
    if (length == 0) return false;
    s.remove_prefix(length);
  }
  return true;
}

// Bytes of the character that `s` begins with; 0 when that is not UTF-8 or is a control character
// (C0, DEL, C1).
inline std::size_t line_character(std::string_view s) {
  const std::size_t length = utf8_length(s);
  if (length == 0) return 0;
  const auto lead = static_cast<std::uint8_t>(s[0]);
  if (lead < 0x20 || lead == 0x7f) return 0;
  const bool c1 = lead == 0xc2 && static_cast<std::uint8_t>(s[1]) < 0xa0;
  return c1 ? 0 : length;
}

// UTF-8 without control characters: shown on a terminal, it moves no cursor and starts no line.
inline bool is_line(std::string_view s) {
  while (!s.empty()) {
    const std::size_t length = line_character(s);
    if (length == 0) return false;
    s.remove_prefix(length);
  }
  return true;
}

// `s` as a line of at most `cap` bytes: '?' for each byte that is not allowed in one, cut between
// characters.
inline std::string as_line(std::string_view s, std::size_t cap) {
  std::string line;
  while (!s.empty()) {
    const std::size_t length = line_character(s);
    const std::string_view piece = length == 0 ? std::string_view("?") : s.substr(0, length);
    if (piece.size() > cap - line.size()) break;
    line += piece;
    s.remove_prefix(length == 0 ? 1 : length);
  }
  return line;
}

}  // namespace kvferry::wire
