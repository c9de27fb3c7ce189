#include "space_cleanup.hpp"

#include <cstddef>

namespace kvferry {
namespace {

// In each pass a space that is dropped is the character that was put last.

std::string drop_before_punctuation(const std::string& text) {
  std::string out;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    const bool closing = c == '?' || c == '!' || c == '.' || c == ',';
    if (closing && i > 0 && text[i - 1] == ' ') out.pop_back();
    out.push_back(c);
  }
  return out;
}

std::string drop_around_apostrophe(const std::string& text) {
  std::string out;
  bool after_space = false;  // and the space is still there
  for (std::size_t i = 0; i < text.size(); ++i) {
    const bool lone = text[i] == '\'' && after_space && i + 1 < text.size() && text[i + 1] == ' ';
    if (lone) out.pop_back();
    out.push_back(text[i]);
    after_space = text[i] == ' ';
    if (lone) ++i;
  }
  return out;
}

std::string drop_before_contraction(const std::string& text) {
  std::string out;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (i > 0 && text[i - 1] == ' ' && text[i] == '\'' && i + 1 < text.size()) {
      const char first = text[i + 1];
      const char second = i + 2 < text.size() ? text[i + 2] : '\0';
      const bool joined =
          first == 's' || first == 'm' || ((first == 'r' || first == 'v') && second == 'e');
      if (joined) out.pop_back();
    }
    out.push_back(text[i]);
  }
  return out;
}

}  // namespace

std::string clean_spaces(const std::string& text) {
  return drop_before_contraction(drop_around_apostrophe(drop_before_punctuation(text)));
}

}  // namespace kvferry
