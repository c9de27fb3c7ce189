// Text that a peer sent or will get: UTF-8, and lines that are safe to show on a terminal.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

namespace kvferry::wire {

// Bytes of the well-formed UTF-8 character at s[at], 0 when there is none (overlong forms,
// surrogates and values above U+10FFFF are none).
inline std::size_t utf8_character(const std::string& s, std::size_t at) {
  const auto byte = [&](std::size_t i) { return static_cast<std::uint8_t>(s[i]); };
  const std::uint8_t lead = byte(at);
  if (lead < 0x80) return 1;
  const std::size_t length = lead >= 0xf0 ? 4 : lead >= 0xe0 ? 3 : 2;
  if (lead < 0xc2 || lead > 0xf4 || length > s.size() - at) return 0;
  for (std::size_t i = 1; i < length; ++i) {
    if ((byte(at + i) & 0xc0) != 0x80) return 0;
  }
  const std::uint8_t second = byte(at + 1);
  if (lead == 0xe0 && second < 0xa0) return 0;   // overlong
  if (lead == 0xed && second >= 0xa0) return 0;  // surrogates
  if (lead == 0xf0 && second < 0x90) return 0;   // overlong
  if (lead == 0xf4 && second >= 0x90) return 0;  // above U+10FFFF
  return length;
}

inline bool is_utf8(const std::string& s) {
  for (std::size_t at = 0; at < s.size();) {
    const std::size_t length = utf8_character(s, at);
    if (length == 0) return false;
    at += length;
  }
  return true;
}

// The character of `length` bytes at s[at] is a control character: C0, DEL or C1.
inline bool is_control(const std::string& s, std::size_t at, std::size_t length) {
  const auto lead = static_cast<std::uint8_t>(s[at]);
  if (length == 1) return lead < 0x20 || lead == 0x7f;
  return lead == 0xc2 && static_cast<std::uint8_t>(s[at + 1]) < 0xa0;
}

// UTF-8 without control characters: shown on a terminal, it moves no cursor and starts no line.
inline bool is_line(const std::string& s) {
  for (std::size_t at = 0; at < s.size();) {
    const std::size_t length = utf8_character(s, at);
    if (length == 0 || is_control(s, at, length)) return false;
    at += length;
  }
  return true;
}

// `s` as a line of at most `cap` bytes: '?' for what is not allowed in one, cut between characters.
inline std::string as_line(const std::string& s, std::size_t cap) {
  std::string line;
  for (std::size_t at = 0; at < s.size();) {
    const std::size_t length = utf8_character(s, at);
    const bool shown = length != 0 && !is_control(s, at, length);
    const std::string piece = shown ? s.substr(at, length) : "?";
    if (piece.size() > cap - line.size()) break;
    line += piece;
    at += length == 0 ? 1 : length;
  }
  return line;
}

}  // namespace kvferry::wire
