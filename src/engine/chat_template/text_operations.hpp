// Python's string methods on Text.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "kvferry/core/result.hpp"

#include "text.hpp"

namespace kvferry {
namespace jinja {

// Without the characters of `characters` (Unicode white space if it is nullptr) at the ends.
Text strip(const Text& text, const std::string* characters, bool left, bool right);

// At every `separator`, which is not empty, at most `limit` times.
std::vector<Text> split(const Text& text, const std::string& separator, std::size_t limit);

// At runs of white space, at most `limit` times.
std::vector<Text> split_words(const Text& text, std::size_t limit);

// kResourceExhausted when the result is too long.
Result<Text> replace(const Text& text, const std::string& from, const Text& to, std::size_t limit);

// kUnsupported beyond ASCII, where one letter can become several.
Result<Text> to_upper(const Text& text);
Result<Text> to_lower(const Text& text);
// The first letter upper case, the others lower.
Result<Text> to_capitalized(const Text& text);
// So for every word. Python's words are runs of letters; those of Jinja's filter begin after one of
// `separators`; nullptr for Python's.
Result<Text> to_title(const Text& text, const char* separators);

// Byte offsets at which characters begin, and the end.
std::vector<std::size_t> character_begins(const Text& text);

}  // namespace jinja
}  // namespace kvferry
