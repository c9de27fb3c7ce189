// TokenStream: what the parsers of statements and expressions read from.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "kvferry/core/quoted.hpp"
#include "kvferry/core/result.hpp"

#include "lexer.hpp"

namespace kvferry {
namespace jinja {

class TokenStream {
 public:
  // `tokens` ends with kEnd.
  explicit TokenStream(std::vector<Token> tokens) : tokens_(std::move(tokens)) {}

  const Token& peek() const { return tokens_[at_]; }
  // The next token; the last one (kEnd) stays.
  Token next() {
    Token token = tokens_[at_];
    if (at_ + 1 < tokens_.size()) ++at_;
    return token;
  }
  bool at_operator(std::string_view text) const {
    return peek().kind == TokenKind::kOperator && peek().text == text;
  }
  bool at_name(std::string_view text) const {
    return peek().kind == TokenKind::kName && peek().text == text;
  }
  bool take_operator(std::string_view text) {
    const bool found = at_operator(text);
    if (found) next();
    return found;
  }
  bool take_name(std::string_view text) {
    const bool found = at_name(text);
    if (found) next();
    return found;
  }
  Status expect_operator(std::string_view text) {
    if (take_operator(text)) return {};
    return unexpected(quoted(text));
  }
  Status expect_kind(TokenKind kind, const char* what) {
    if (peek().kind != kind) return unexpected(what);
    next();
    return {};
  }
  Result<std::string> expect_name() {
    if (peek().kind != TokenKind::kName) return unexpected("a name");
    return next().text;
  }
  // "… where … is expected".
  Error unexpected(const std::string& expected) const {
    const Token& token = peek();
    const std::string found = token.kind == TokenKind::kEnd ? "its end" : quoted(token.text, 40);
    return Error(ErrorCode::kUnsupported, found + " at byte " + std::to_string(token.offset) +
                                              ", where " + expected + " is expected");
  }

 private:
  std::vector<Token> tokens_;
  std::size_t at_ = 0;
};

}  // namespace jinja
}  // namespace kvferry
