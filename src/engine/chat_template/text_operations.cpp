#include "text_operations.hpp"

#include <algorithm>
#include <string_view>
#include <utility>

#include "../tokenizer/unicode.hpp"
#include "builtins.hpp"

namespace kvferry {
namespace jinja {
namespace {

bool is_lower(char c) {
  return c >= 'a' && c <= 'z';
}
bool is_upper(char c) {
  return c >= 'A' && c <= 'Z';
}
char lower(char c) {
  return is_upper(c) ? static_cast<char>(c - 'A' + 'a') : c;
}
char upper(char c) {
  return is_lower(c) ? static_cast<char>(c - 'a' + 'A') : c;
}

// str.isspace() of Python.
bool is_space(std::uint32_t code_point) {
  if (code_point < 0x80) {
    return code_point == ' ' || (code_point >= '\t' && code_point <= '\r') ||
           (code_point >= 0x1c && code_point <= 0x1f);
  }
  return class_of(code_point) == kSpaceClass;
}

std::vector<std::size_t> begins_of(std::string_view bytes) {
  std::vector<std::size_t> begins;
  for (std::size_t i = 0; i < bytes.size(); i += decode_character(bytes, i).size) {
    begins.push_back(i);
  }
  begins.push_back(bytes.size());
  return begins;
}

Status check_ascii(const Text& text) {
  const auto beyond = [](char c) { return static_cast<unsigned char>(c) >= 0x80; };
  if (std::none_of(text.bytes().begin(), text.bytes().end(), beyond)) return {};
  return Error(ErrorCode::kUnsupported, "upper and lower case of text beyond ASCII");
}

}  // namespace

Text strip(const Text& text, const std::string* characters, bool left, bool right) {
  const std::string_view bytes = text.bytes();
  const auto stripped = [&](std::size_t at, std::size_t size) {
    if (characters == nullptr) return is_space(decode_character(bytes, at).code_point);
    return characters->find(bytes.substr(at, size)) != std::string::npos;
  };
  std::size_t first = 0;
  std::size_t last = bytes.size();
  while (left && first < last) {
    const std::size_t size = decode_character(bytes, first).size;
    if (!stripped(first, size)) break;
    first += size;
  }
  while (right && last > first) {
    std::size_t at = last - 1;
    while (at > first && (static_cast<unsigned char>(bytes[at]) & 0xc0) == 0x80) --at;
    if (!stripped(at, last - at)) break;
    last = at;
  }
  return text.substring(first, last - first);
}

std::vector<Text> split(const Text& text, const std::string& separator, std::size_t limit) {
  std::vector<Text> parts;
  std::size_t begin = 0;
  while (parts.size() < limit) {
    const std::size_t at = text.bytes().find(separator, begin);
    if (at == std::string::npos) break;
    parts.push_back(text.substring(begin, at - begin));
    begin = at + separator.size();
  }
  parts.push_back(text.substring(begin));
  return parts;
}

std::vector<Text> split_words(const Text& text, std::size_t limit) {
  const std::string_view bytes = text.bytes();
  std::vector<Text> words;
  std::size_t word = 0;
  for (std::size_t i = 0; i < bytes.size() && words.size() < limit;) {
    const DecodedCharacter character = decode_character(bytes, i);
    if (is_space(character.code_point)) {
      if (i > word) words.push_back(text.substring(word, i - word));
      word = i + character.size;
    }
    i += character.size;
  }
  Text rest = strip(text.substring(word), nullptr, true, false);
  if (!rest.empty()) words.push_back(std::move(rest));
  return words;
}

Result<Text> replace(const Text& text, const std::string& from, const Text& to, std::size_t limit) {
  if (from.empty()) return Error(ErrorCode::kUnsupported, "a replacement of the empty text");
  Text out;
  std::size_t begin = 0;
  for (std::size_t count = 0; count < limit; ++count) {
    const std::size_t at = text.bytes().find(from, begin);
    if (at == std::string::npos) break;
    out.append(text.substring(begin, at - begin));
    out.append(to);
    if (out.size() > kMaxTemplateText) {
      return Error(ErrorCode::kResourceExhausted, "a text of too many bytes");
    }
    begin = at + from.size();
  }
  out.append(text.substring(begin));
  return out;
}

Result<Text> to_upper(const Text& text) {
  KVFERRY_TRY(check_ascii(text));
  return text.mapped(upper);
}

Result<Text> to_lower(const Text& text) {
  KVFERRY_TRY(check_ascii(text));
  return text.mapped(lower);
}

Result<Text> to_capitalized(const Text& text) {
  KVFERRY_TRY(check_ascii(text));
  bool start = true;
  return text.mapped([&](char c) { return std::exchange(start, false) ? upper(c) : lower(c); });
}

Result<Text> to_title(const Text& text, const char* separators) {
  KVFERRY_TRY(check_ascii(text));
  bool start = true;
  return text.mapped([&](char c) {
    const char out = start ? upper(c) : lower(c);
    start = separators == nullptr ? !is_lower(c) && !is_upper(c)
                                  : std::string_view(separators).find(c) != std::string_view::npos;
    return out;
  });
}

std::vector<std::size_t> character_begins(const Text& text) {
  return begins_of(text.bytes());
}

}  // namespace jinja
}  // namespace kvferry
