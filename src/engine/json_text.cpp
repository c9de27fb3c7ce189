#include "json_text.hpp"

#include <algorithm>
#include <cstdio>

#include "kvferry/core/quoted.hpp"

namespace kvferry {

std::string json_string(std::string_view text) {
  std::string out = "\"";
  std::size_t i = 0;
  while (i < text.size()) {
    const std::size_t length = utf8_length(text.substr(i));
    const char c = text[i];
    if (length == 0) {
      out += "\\ufffd";
    } else if (c == '"' || c == '\\') {
      out += '\\';
      out += c;
    } else if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) {
      char buffer[8];
      std::snprintf(buffer, sizeof buffer, "\\u%04x", static_cast<unsigned>(c));
      out += buffer;
    } else {
      out.append(text.data() + i, length);
    }
    i += std::max<std::size_t>(1, length);
  }
  return out + "\"";
}

}  // namespace kvferry
