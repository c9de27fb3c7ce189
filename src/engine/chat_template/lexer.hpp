// Cuts a Jinja template into text and tags, and tags into tokens.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "kvferry/core/result.hpp"

namespace kvferry {
namespace jinja {

enum class TokenKind : std::uint8_t {
  kText,            // between tags, white space already trimmed
  kStatementBegin,  // {%
  kStatementEnd,    // %}
  kOutputBegin,     // {{
  kOutputEnd,       // }}
  kName,
  kString,  // unescaped
  kInteger,
  kOperator,  // one of == != <= >= // ** and the single characters
  kEnd,       // of the template
};

struct Token {
  TokenKind kind = TokenKind::kEnd;
  std::string text;
  std::int64_t integer = 0;
  std::size_t offset = 0;  // in the template, for messages
};

// White space is trimmed as Transformers has it (trim_blocks and lstrip_blocks on; one line end at
// the template's end dropped). kUnsupported names what it cannot read and where.
Result<std::vector<Token>> tokenize_template(const std::string& source);

}  // namespace jinja
}  // namespace kvferry
