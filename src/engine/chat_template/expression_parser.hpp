// Parses the expressions of a Jinja template.
#pragma once

#include "syntax.hpp"
#include "token_stream.hpp"

namespace kvferry {
namespace jinja {

class ExpressionParser {
 public:
  explicit ExpressionParser(TokenStream& tokens) : tokens_(tokens) {}

  // A whole expression; without `with_choice` it ends before an "if" (as in "for x in xs if y").
  Result<ExpressionPtr> parse(bool with_choice = true);

 private:
  // From the loosest binding to the tightest.
  Result<ExpressionPtr> parse_choice(bool with_choice);
  Result<ExpressionPtr> parse_binary(std::size_t level);
  Result<ExpressionPtr> parse_not();
  Result<ExpressionPtr> parse_comparison();
  Result<ExpressionPtr> parse_unary(bool with_filters);
  Result<ExpressionPtr> parse_primary();
  Result<ExpressionPtr> parse_bracketed();
  Result<ExpressionPtr> parse_postfix(ExpressionPtr target);
  Result<ExpressionPtr> parse_filters(ExpressionPtr target);
  Result<ExpressionPtr> parse_subscript(ExpressionPtr target);
  Result<ExpressionPtr> parse_test(ExpressionPtr target);
  Status parse_arguments(Expression& call);
  Result<ExpressionPtr> make(Expression node);

  TokenStream& tokens_;
  std::size_t nesting_ = 0;
};

}  // namespace jinja
}  // namespace kvferry
