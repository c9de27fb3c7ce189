#include "kvferry/engine/detokenizer.hpp"

#include <utility>

namespace kvferry {
namespace {

constexpr const char* kReplacement = "\xef\xbf\xbd";  // U+FFFD

// Whether `c` may be byte `position` (from 1) of a character that begins with `first`: Unicode's
// table of well-formed UTF-8.
bool continues(unsigned char first, std::size_t position, unsigned char c) {
  if (position == 1) {
    if (first == 0xe0) return c >= 0xa0 && c <= 0xbf;
    if (first == 0xed) return c >= 0x80 && c <= 0x9f;
    if (first == 0xf0) return c >= 0x90 && c <= 0xbf;
    if (first == 0xf4) return c >= 0x80 && c <= 0x8f;
  }
  return c >= 0x80 && c <= 0xbf;
}

// Bytes of the character that begins with `first`; 0 when none does.
std::size_t character_size(unsigned char first) {
  if (first < 0x80) return 1;
  if (first < 0xc2) return 0;
  if (first < 0xe0) return 2;
  if (first < 0xf0) return 3;
  return first < 0xf5 ? 4 : 0;
}

// Moves whole characters, and U+FFFD for what can become none, from `bytes` to `out`; the start of
// a character stays.
void take_characters(std::string& bytes, std::string& out) {
  std::size_t i = 0;
  while (i < bytes.size()) {
    const auto at = [&](std::size_t k) { return static_cast<unsigned char>(bytes[k]); };
    const std::size_t size = character_size(at(i));
    std::size_t good = size == 0 ? 0 : 1;
    while (good < size && i + good < bytes.size() && continues(at(i), good, at(i + good))) ++good;
    if (size != 0 && good == size) {
      out.append(bytes, i, size);
      i += size;
    } else if (size != 0 && i + good == bytes.size()) {
      break;
    } else {
      out += kReplacement;
      i += good == 0 ? 1 : good;
    }
  }
  bytes.erase(0, i);
}

}  // namespace

StreamingDetokenizer::StreamingDetokenizer(Tokenizer tokenizer, bool unparse_special,
                                           bool start_of_text)
    : tokenizer_(std::move(tokenizer)),
      unparse_special_(unparse_special),
      drop_space_(start_of_text && tokenizer_.vocabulary().add_space_prefix) {}

Result<std::string> StreamingDetokenizer::push(TokenId token) {
  KVFERRY_ASSIGN(std::string bytes, tokenizer_.piece(token, unparse_special_));
  if (drop_space_ && !bytes.empty()) {
    if (bytes[0] == ' ') bytes.erase(0, 1);
    drop_space_ = false;
  }
  pending_ += bytes;
  std::string text;
  take_characters(pending_, text);
  return text;
}

std::string StreamingDetokenizer::flush() {
  const bool incomplete = !pending_.empty();
  pending_.clear();
  return incomplete ? kReplacement : std::string();
}

}  // namespace kvferry
