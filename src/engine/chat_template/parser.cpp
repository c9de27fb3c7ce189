#include "expression_parser.hpp"
#include "syntax.hpp"
#include "token_stream.hpp"

namespace kvferry {
namespace jinja {
namespace {

class Parser {
 public:
  explicit Parser(std::vector<Token> tokens) : tokens_(std::move(tokens)), expressions_(tokens_) {}

  Result<Block> run() {
    std::string ended_by;
    KVFERRY_ASSIGN(Block block, parse_block({}, ended_by));
    return block;
  }

 private:
  // Statements up to {% name with one of `ends`, which is read and named in `ended_by`, or up to
  // the template's end if there are none.
  Result<Block> parse_block(const std::vector<std::string>& ends, std::string& ended_by) {
    if (depth_ == kMaxSyntaxDepth) return tokens_.unexpected("less nesting");
    ++depth_;
    auto result = parse_statements(ends, ended_by);
    --depth_;
    return result;
  }

  Result<Block> parse_statements(const std::vector<std::string>& ends, std::string& ended_by) {
    Block block;
    for (;;) {
      const Token token = tokens_.peek();
      if (token.kind == TokenKind::kEnd) {
        if (ends.empty()) return block;
        return tokens_.unexpected(quoted(ends.back()));
      }
      tokens_.next();
      Statement statement;
      statement.offset = token.offset;
      if (token.kind == TokenKind::kText) {
        statement.text = Text(token.text);
      } else if (token.kind == TokenKind::kOutputBegin) {
        statement.kind = StatementKind::kOutput;
        KVFERRY_ASSIGN(statement.expression, expressions_.parse());
        KVFERRY_TRY(tokens_.expect_kind(TokenKind::kOutputEnd, "\"}}\""));
      } else {
        const Token keyword = tokens_.peek();
        KVFERRY_ASSIGN(const std::string name, tokens_.expect_name());
        for (const std::string& end : ends) {
          if (name == end) {
            ended_by = name;
            return block;
          }
        }
        // Transformers' marks around the assistant's words, for training.
        if (name == "generation" || name == "endgeneration") {
          KVFERRY_TRY(end_tag());
          continue;
        }
        KVFERRY_TRY(parse_statement(name, keyword.offset, statement));
      }
      block.push_back(std::move(statement));
    }
  }

  Status end_tag() { return tokens_.expect_kind(TokenKind::kStatementEnd, "\"%}\""); }

  Status parse_statement(const std::string& name, std::size_t offset, Statement& out) {
    if (name == "if") return parse_if(out);
    if (name == "for") return parse_for(out);
    if (name == "set") return parse_set(out);
    if (name == "macro") return parse_macro(out);
    if (name == "break" || name == "continue") {
      if (loops_ == 0) {
        return Error(ErrorCode::kUnsupported,
                     quoted(name) + " outside of a loop at byte " + std::to_string(offset));
      }
      out.kind = name == "break" ? StatementKind::kBreak : StatementKind::kContinue;
      return end_tag();
    }
    return Error(ErrorCode::kUnsupported,
                 "the statement " + quoted(name, 40) + " at byte " + std::to_string(offset));
  }

  Status parse_if(Statement& out) {
    out.kind = StatementKind::kIf;
    std::string ended_by = "elif";
    while (ended_by != "endif") {
      Branch branch;
      const bool last = ended_by == "else";
      if (!last) {
        KVFERRY_ASSIGN(branch.condition, expressions_.parse());
      }
      KVFERRY_TRY(end_tag());
      const std::vector<std::string> ends = last
                                                ? std::vector<std::string>{"endif"}
                                                : std::vector<std::string>{"elif", "else", "endif"};
      KVFERRY_ASSIGN(branch.body, parse_block(ends, ended_by));
      out.branches.push_back(std::move(branch));
    }
    return end_tag();
  }

  Status parse_for(Statement& out) {
    out.kind = StatementKind::kFor;
    do {
      KVFERRY_ASSIGN(std::string name, tokens_.expect_name());
      out.names.push_back(std::move(name));
    } while (tokens_.take_operator(","));
    if (!tokens_.take_name("in")) return tokens_.unexpected("\"in\"");
    KVFERRY_ASSIGN(out.expression, expressions_.parse(false));
    if (tokens_.take_name("if")) {
      KVFERRY_ASSIGN(out.condition, expressions_.parse());
    }
    KVFERRY_TRY(end_tag());
    std::string ended_by;
    ++loops_;
    auto body = parse_block({"else", "endfor"}, ended_by);
    --loops_;
    KVFERRY_ASSIGN(out.body, std::move(body));
    if (ended_by == "else") {
      KVFERRY_TRY(end_tag());
      KVFERRY_ASSIGN(out.otherwise, parse_block({"endfor"}, ended_by));
    }
    return end_tag();
  }

  Status parse_set(Statement& out) {
    out.kind = StatementKind::kSet;
    KVFERRY_ASSIGN(std::string name, tokens_.expect_name());
    out.names.push_back(std::move(name));
    if (tokens_.take_operator(".")) {
      KVFERRY_ASSIGN(std::string attribute, tokens_.expect_name());
      out.names.push_back(std::move(attribute));
    }
    if (out.names.size() == 1 && tokens_.peek().kind == TokenKind::kStatementEnd) {
      out.kind = StatementKind::kSetBlock;
      KVFERRY_TRY(end_tag());
      std::string ended_by;
      KVFERRY_ASSIGN(out.body, parse_block({"endset"}, ended_by));
      return end_tag();
    }
    KVFERRY_TRY(tokens_.expect_operator("="));
    KVFERRY_ASSIGN(out.expression, expressions_.parse());
    return end_tag();
  }

  Status parse_macro(Statement& out) {
    out.kind = StatementKind::kMacro;
    KVFERRY_ASSIGN(std::string name, tokens_.expect_name());
    out.names.push_back(std::move(name));
    KVFERRY_TRY(tokens_.expect_operator("("));
    while (!tokens_.take_operator(")")) {
      KVFERRY_ASSIGN(std::string parameter, tokens_.expect_name());
      ExpressionPtr value;
      if (tokens_.take_operator("=")) {
        KVFERRY_ASSIGN(value, expressions_.parse());
      }
      out.names.push_back(std::move(parameter));
      out.defaults.push_back(std::move(value));
      if (!tokens_.take_operator(",")) {
        KVFERRY_TRY(tokens_.expect_operator(")"));
        break;
      }
    }
    KVFERRY_TRY(end_tag());
    // A loop around the macro is none of its own.
    const std::size_t loops = loops_;
    loops_ = 0;
    std::string ended_by;
    auto body = parse_block({"endmacro"}, ended_by);
    loops_ = loops;
    KVFERRY_ASSIGN(out.body, std::move(body));
    return end_tag();
  }

  TokenStream tokens_;
  ExpressionParser expressions_;
  std::size_t depth_ = 0;
  std::size_t loops_ = 0;  // around the statement that is read
};

}  // namespace

Result<Block> parse_template(const std::string& source) {
  KVFERRY_ASSIGN(std::vector<Token> tokens, tokenize_template(source));
  return Parser(std::move(tokens)).run();
}

}  // namespace jinja
}  // namespace kvferry
