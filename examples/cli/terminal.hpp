// What a model or a peer says, on a terminal.
#pragma once

#include <cstddef>
#include <cstdint>
#include <iostream>
#include <string>

#include <unistd.h>

namespace kvferry::cli {

// `text` without control characters but new lines and tabs: each becomes U+FFFD, so that nobody's
// text drives the terminal.
inline std::string without_controls(const std::string& text) {
  std::string out;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const auto byte = static_cast<std::uint8_t>(text[i]);
    const auto next =
        i + 1 < text.size() ? static_cast<std::uint8_t>(text[i + 1]) : std::uint8_t{0};
    const bool c0 = (byte < 0x20 && byte != '\n' && byte != '\t') || byte == 0x7f;
    const bool c1 = byte == 0xc2 && next >= 0x80 && next < 0xa0;
    if (c0 || c1) {
      out += "\xef\xbf\xbd";
      if (c1) ++i;
    } else {
      out += text[i];
    }
  }
  return out;
}

// Prints a part of an answer: to a terminal without control characters, else as it is.
inline void print_answer(const std::string& text) {
  static const bool to_terminal = ::isatty(STDOUT_FILENO) == 1;
  std::cout << (to_terminal ? without_controls(text) : text) << std::flush;
}

}  // namespace kvferry::cli
