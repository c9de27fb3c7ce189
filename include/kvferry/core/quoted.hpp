// quoted(): text from a file or a peer, made safe to print in a message.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace kvferry {

// Length of the UTF-8 character that `text` begins with; 0 when it begins with none (a stray or
// missing continuation byte, an overlong form, a surrogate, more than U+10FFFF).
inline std::size_t utf8_length(std::string_view text) {
  const auto byte = [&](std::size_t i) {
    return i < text.size() ? static_cast<std::uint8_t>(text[i]) : std::uint8_t{0};
  };
  const auto continues = [&](std::size_t i) { return (byte(i) & 0xc0) == 0x80; };
  const std::uint8_t lead = byte(0);
  if (text.empty()) return 0;
  if (lead < 0x80) return 1;
  if (lead >= 0xc2 && lead <= 0xdf) return continues(1) ? 2 : 0;
  if (lead >= 0xe0 && lead <= 0xef) {
    const bool overlong = lead == 0xe0 && byte(1) < 0xa0;
    const bool surrogate = lead == 0xed && byte(1) > 0x9f;
    return continues(1) && continues(2) && !overlong && !surrogate ? 3 : 0;
  }
  if (lead >= 0xf0 && lead <= 0xf4) {
    const bool overlong = lead == 0xf0 && byte(1) < 0x90;
    const bool beyond = lead == 0xf4 && byte(1) > 0x8f;
    return continues(1) && continues(2) && continues(3) && !overlong && !beyond ? 4 : 0;
  }
  return 0;
}

// `text` on one line in double quotes. Control characters and invalid UTF-8 become \n, \t or \xNN;
// after `limit` bytes of text it is cut, with "…" before the closing quote.
inline std::string quoted(std::string_view text, std::size_t limit = 80) {
  static constexpr const char* kHex = "0123456789abcdef";
  std::string out = "\"";
  std::size_t i = 0;
  while (i < text.size()) {
    const std::size_t length = utf8_length(text.substr(i));
    const std::size_t take = length == 0 ? 1 : length;
    if (take > limit || i > limit - take) {
      out += "…";
      break;
    }
    const auto first = static_cast<std::uint8_t>(text[i]);
    // U+0080 to U+009F are control characters too.
    const bool c1 = length == 2 && first == 0xc2 && static_cast<std::uint8_t>(text[i + 1]) < 0xa0;
    if (first == '\n') {
      out += "\\n";
    } else if (first == '\t') {
      out += "\\t";
    } else if (first == '"' || first == '\\') {
      out += '\\';
      out += text[i];
    } else if (length == 0 || first < 0x20 || first == 0x7f || c1) {
      for (std::size_t k = 0; k < take; ++k) {
        const auto b = static_cast<std::uint8_t>(text[i + k]);
        out += "\\x";
        out += kHex[b >> 4];
        out += kHex[b & 15];
      }
    } else {
      out.append(text.data() + i, length);
    }
    i += take;
  }
  return out + "\"";
}

}  // namespace kvferry
