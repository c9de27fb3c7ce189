#include "expression_parser.hpp"

#include <algorithm>

namespace kvferry {
namespace jinja {
namespace {

// Left-associative operators, by level from the loosest.
const std::vector<std::vector<std::string_view>>& levels() {
  static const std::vector<std::vector<std::string_view>> table = {
      {"or"}, {"and"}, {}, {"+", "-"}, {"~"}, {"*", "/", "//", "%"}};
  return table;
}
constexpr std::size_t kNotLevel = 2;  // "not" and comparisons
constexpr std::size_t kSumLevel = 3;

Error too_deep(std::size_t offset) {
  return Error(ErrorCode::kUnsupported, "an expression at byte " + std::to_string(offset) +
                                            " that nests deeper than " +
                                            std::to_string(kMaxSyntaxDepth));
}

Expression node(ExpressionKind kind, std::size_t offset, const std::string& name = std::string()) {
  Expression out;
  out.kind = kind;
  out.offset = offset;
  out.name = name;
  return out;
}

}  // namespace

Result<ExpressionPtr> ExpressionParser::make(Expression node) {
  for (const ExpressionPtr& operand : node.operands) {
    if (operand) node.depth = std::max(node.depth, operand->depth + 1);
  }
  for (const auto& keyword : node.keywords) {
    node.depth = std::max(node.depth, keyword.second->depth + 1);
  }
  if (node.depth > kMaxSyntaxDepth) return too_deep(node.offset);
  return ExpressionPtr(std::make_unique<const Expression>(std::move(node)));
}

Result<ExpressionPtr> ExpressionParser::parse(bool with_choice) {
  // Every way for an expression to nest in another leads through here, parse_not or parse_unary.
  if (nesting_ == kMaxSyntaxDepth) return too_deep(tokens_.peek().offset);
  ++nesting_;
  auto result = parse_choice(with_choice);
  --nesting_;
  return result;
}

Result<ExpressionPtr> ExpressionParser::parse_choice(bool with_choice) {
  KVFERRY_ASSIGN(ExpressionPtr value, parse_binary(0));
  while (with_choice && tokens_.at_name("if")) {
    Expression choice = node(ExpressionKind::kChoice, tokens_.next().offset);
    KVFERRY_ASSIGN(ExpressionPtr condition, parse_binary(0));
    ExpressionPtr otherwise;
    if (tokens_.take_name("else")) {
      KVFERRY_ASSIGN(otherwise, parse());
    }
    choice.operands.push_back(std::move(value));
    choice.operands.push_back(std::move(condition));
    choice.operands.push_back(std::move(otherwise));
    KVFERRY_ASSIGN(value, make(std::move(choice)));
  }
  return value;
}

Result<ExpressionPtr> ExpressionParser::parse_binary(std::size_t level) {
  if (level == kNotLevel) return parse_not();
  if (level == levels().size()) return parse_unary(true);
  KVFERRY_ASSIGN(ExpressionPtr left, parse_binary(level + 1));
  for (;;) {
    const Token& token = tokens_.peek();
    const bool name = level < kNotLevel;
    const auto& operators = levels()[level];
    if (token.kind != (name ? TokenKind::kName : TokenKind::kOperator) ||
        std::find(operators.begin(), operators.end(), token.text) == operators.end()) {
      return left;
    }
    Expression binary = node(ExpressionKind::kBinary, token.offset, token.text);
    tokens_.next();
    KVFERRY_ASSIGN(ExpressionPtr right, parse_binary(level + 1));
    binary.operands.push_back(std::move(left));
    binary.operands.push_back(std::move(right));
    KVFERRY_ASSIGN(left, make(std::move(binary)));
  }
}

Result<ExpressionPtr> ExpressionParser::parse_not() {
  if (!tokens_.at_name("not")) return parse_comparison();
  if (nesting_ == kMaxSyntaxDepth) return too_deep(tokens_.peek().offset);
  Expression negation = node(ExpressionKind::kNot, tokens_.next().offset);
  ++nesting_;
  auto operand = parse_not();
  --nesting_;
  KVFERRY_ASSIGN(ExpressionPtr value, std::move(operand));
  negation.operands.push_back(std::move(value));
  return make(std::move(negation));
}

Result<ExpressionPtr> ExpressionParser::parse_comparison() {
  KVFERRY_ASSIGN(ExpressionPtr left, parse_binary(kSumLevel));
  bool compared = false;
  for (;;) {
    const Token token = tokens_.peek();
    std::string name;
    if (token.kind == TokenKind::kOperator) {
      for (const char* known : {"==", "!=", "<", "<=", ">", ">="}) {
        if (token.text == known) name = known;
      }
      if (!name.empty()) tokens_.next();
    } else if (tokens_.take_name("in")) {
      name = "in";
    } else if (tokens_.at_name("not")) {
      tokens_.next();
      if (!tokens_.take_name("in")) return tokens_.unexpected("\"in\"");
      name = "not in";
    }
    if (name.empty()) return left;
    if (compared) {
      return Error(ErrorCode::kUnsupported,
                   "a chain of comparisons at byte " + std::to_string(token.offset));
    }
    compared = true;
    Expression comparison = node(ExpressionKind::kBinary, token.offset, name);
    KVFERRY_ASSIGN(ExpressionPtr right, parse_binary(kSumLevel));
    comparison.operands.push_back(std::move(left));
    comparison.operands.push_back(std::move(right));
    KVFERRY_ASSIGN(left, make(std::move(comparison)));
  }
}

Result<ExpressionPtr> ExpressionParser::parse_unary(bool with_filters) {
  ExpressionPtr value;
  if (tokens_.at_operator("-")) {
    if (nesting_ == kMaxSyntaxDepth) return too_deep(tokens_.peek().offset);
    Expression negation = node(ExpressionKind::kNegate, tokens_.next().offset);
    ++nesting_;
    auto operand = parse_unary(false);
    --nesting_;
    KVFERRY_ASSIGN(value, std::move(operand));
    negation.operands.push_back(std::move(value));
    KVFERRY_ASSIGN(value, make(std::move(negation)));
  } else {
    KVFERRY_ASSIGN(value, parse_primary());
  }
  KVFERRY_ASSIGN(value, parse_postfix(std::move(value)));
  if (!with_filters) return value;
  return parse_filters(std::move(value));
}

Result<ExpressionPtr> ExpressionParser::parse_primary() {
  const Token token = tokens_.peek();
  if (token.kind == TokenKind::kOperator) return parse_bracketed();
  Expression literal = node(ExpressionKind::kLiteral, token.offset);
  if (token.kind == TokenKind::kInteger) {
    literal.literal = token.integer;
  } else if (token.kind == TokenKind::kString) {
    std::string text = token.text;
    tokens_.next();
    while (tokens_.peek().kind == TokenKind::kString) text += tokens_.next().text;
    literal.literal = Text(std::move(text));
    return make(std::move(literal));
  } else if (token.kind != TokenKind::kName) {
    return tokens_.unexpected("a value");
  } else if (token.text == "true" || token.text == "True") {
    literal.literal = true;
  } else if (token.text == "false" || token.text == "False") {
    literal.literal = false;
  } else if (token.text == "none" || token.text == "None") {
    literal.literal = None{};
  } else {
    literal.kind = ExpressionKind::kName;
    literal.name = token.text;
  }
  tokens_.next();
  return make(std::move(literal));
}

// ( … ), [ … ] or { … }. A tuple is a list.
Result<ExpressionPtr> ExpressionParser::parse_bracketed() {
  const std::size_t offset = tokens_.peek().offset;
  const bool mapping = tokens_.at_operator("{");
  const bool tuple = tokens_.at_operator("(");
  if (!mapping && !tuple && !tokens_.at_operator("[")) return tokens_.unexpected("a value");
  tokens_.next();
  const char* close = mapping ? "}" : tuple ? ")" : "]";
  Expression out = node(mapping ? ExpressionKind::kMapping : ExpressionKind::kList, offset);
  bool comma = false;
  while (!tokens_.take_operator(close)) {
    KVFERRY_ASSIGN(ExpressionPtr item, parse());
    out.operands.push_back(std::move(item));
    if (mapping) {
      KVFERRY_TRY(tokens_.expect_operator(":"));
      KVFERRY_ASSIGN(ExpressionPtr value, parse());
      out.operands.push_back(std::move(value));
    }
    if (tokens_.take_operator(",")) {
      comma = true;
    } else {
      KVFERRY_TRY(tokens_.expect_operator(close));
      break;
    }
  }
  if (tuple && !comma && out.operands.size() == 1) return std::move(out.operands[0]);
  return make(std::move(out));
}

Result<ExpressionPtr> ExpressionParser::parse_postfix(ExpressionPtr target) {
  for (;;) {
    const std::size_t offset = tokens_.peek().offset;
    if (tokens_.take_operator(".")) {
      Expression attribute = node(ExpressionKind::kAttribute, offset);
      KVFERRY_ASSIGN(attribute.name, tokens_.expect_name());
      attribute.operands.push_back(std::move(target));
      KVFERRY_ASSIGN(target, make(std::move(attribute)));
    } else if (tokens_.take_operator("[")) {
      KVFERRY_ASSIGN(target, parse_subscript(std::move(target)));
    } else if (tokens_.at_operator("(")) {
      Expression call = node(ExpressionKind::kCall, offset);
      call.operands.push_back(std::move(target));
      KVFERRY_TRY(parse_arguments(call));
      KVFERRY_ASSIGN(target, make(std::move(call)));
    } else {
      return target;
    }
  }
}

// After "[".
Result<ExpressionPtr> ExpressionParser::parse_subscript(ExpressionPtr target) {
  Expression out = node(ExpressionKind::kItem, tokens_.peek().offset);
  out.operands.push_back(std::move(target));
  std::size_t colons = 0;
  ExpressionPtr bound;
  for (;;) {
    if (tokens_.take_operator(":")) {
      if (++colons > 2) return tokens_.unexpected("\"]\"");
      out.operands.push_back(std::move(bound));
      bound = nullptr;
    } else if (tokens_.take_operator("]")) {
      break;
    } else if (bound) {
      return tokens_.unexpected("\"]\"");
    } else {
      KVFERRY_ASSIGN(bound, parse());
    }
  }
  if (colons == 0 && !bound) return tokens_.unexpected("an index");
  out.operands.push_back(std::move(bound));
  if (colons > 0) {
    out.kind = ExpressionKind::kSlice;
    out.operands.resize(4);
  }
  return make(std::move(out));
}

// ( argument, name=argument, … )
Status ExpressionParser::parse_arguments(Expression& call) {
  KVFERRY_TRY(tokens_.expect_operator("("));
  while (!tokens_.take_operator(")")) {
    KVFERRY_ASSIGN(ExpressionPtr argument, parse());
    if (argument->kind == ExpressionKind::kName && tokens_.take_operator("=")) {
      KVFERRY_ASSIGN(ExpressionPtr value, parse());
      call.keywords.emplace_back(argument->name, std::move(value));
    } else {
      call.operands.push_back(std::move(argument));
    }
    if (!tokens_.take_operator(",")) {
      KVFERRY_TRY(tokens_.expect_operator(")"));
      break;
    }
  }
  return {};
}

Result<ExpressionPtr> ExpressionParser::parse_filters(ExpressionPtr target) {
  for (;;) {
    const std::size_t offset = tokens_.peek().offset;
    if (tokens_.take_operator("|")) {
      Expression filter = node(ExpressionKind::kFilter, offset);
      KVFERRY_ASSIGN(filter.name, tokens_.expect_name());
      filter.operands.push_back(std::move(target));
      if (tokens_.at_operator("(")) KVFERRY_TRY(parse_arguments(filter));
      KVFERRY_ASSIGN(target, make(std::move(filter)));
    } else if (tokens_.take_name("is")) {
      KVFERRY_ASSIGN(target, parse_test(std::move(target)));
    } else if (tokens_.at_operator("(") || tokens_.at_operator(".") || tokens_.at_operator("[")) {
      KVFERRY_ASSIGN(target, parse_postfix(std::move(target)));
    } else {
      return target;
    }
  }
}

// After "is".
Result<ExpressionPtr> ExpressionParser::parse_test(ExpressionPtr target) {
  const bool negated = tokens_.take_name("not");
  Expression test = node(ExpressionKind::kTest, tokens_.peek().offset);
  KVFERRY_ASSIGN(test.name, tokens_.expect_name());
  test.operands.push_back(std::move(target));
  const Token& token = tokens_.peek();
  const bool operand_follows = token.kind == TokenKind::kString ||
                               token.kind == TokenKind::kInteger || tokens_.at_operator("[") ||
                               tokens_.at_operator("{") ||
                               (token.kind == TokenKind::kName && token.text != "and" &&
                                token.text != "or" && token.text != "else" && token.text != "if" &&
                                token.text != "is" && token.text != "not" && token.text != "in");
  if (tokens_.at_operator("(")) {
    KVFERRY_TRY(parse_arguments(test));
  } else if (operand_follows) {
    KVFERRY_ASSIGN(ExpressionPtr operand, parse_primary());
    KVFERRY_ASSIGN(operand, parse_postfix(std::move(operand)));
    test.operands.push_back(std::move(operand));
  }
  KVFERRY_ASSIGN(ExpressionPtr result, make(std::move(test)));
  if (!negated) return result;
  Expression negation = node(ExpressionKind::kNot, result->offset);
  negation.operands.push_back(std::move(result));
  return make(std::move(negation));
}

}  // namespace jinja
}  // namespace kvferry
