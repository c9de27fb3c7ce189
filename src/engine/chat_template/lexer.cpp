#include "lexer.hpp"

#include <limits>
#include <string_view>

#include "kvferry/core/quoted.hpp"

#include "../tokenizer/unicode.hpp"

namespace kvferry {
namespace jinja {
namespace {

bool is_space(char c) {
  return c == ' ' || (c >= '\t' && c <= '\r');
}
bool is_digit(char c) {
  return c >= '0' && c <= '9';
}
bool is_name_start(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
}

// Line ends as \n, without the last one.
std::string normalised(const std::string& source) {
  std::string out;
  out.reserve(source.size());
  for (std::size_t i = 0; i < source.size(); ++i) {
    if (source[i] != '\r') {
      out.push_back(source[i]);
      continue;
    }
    out.push_back('\n');
    if (i + 1 < source.size() && source[i + 1] == '\n') ++i;
  }
  if (!out.empty() && out.back() == '\n') out.pop_back();
  return out;
}

class Lexer {
 public:
  explicit Lexer(const std::string& source) : source_(normalised(source)) {}

  Result<std::vector<Token>> run() {
    bool trim_left = false;  // the tag before ended with a minus
    bool line_start = true;  // nothing but white space can stand before here on its line
    while (at_ < source_.size()) {
      const std::size_t tag = find_tag();
      std::size_t begin = at_;
      std::size_t end = tag;
      if (trim_left) {
        while (begin < end && is_space(source_[begin])) ++begin;
      }
      if (tag == source_.size()) {
        add_text(begin, end);
        at_ = tag;
        break;
      }
      const char kind = source_[tag + 1];
      const char sign = tag + 2 < source_.size() ? source_[tag + 2] : '\0';
      if (sign == '-') {
        while (end > begin && is_space(source_[end - 1])) --end;
      } else if (kind != '{' && sign != '+') {
        end = without_indent(begin, end, line_start);
      }
      add_text(begin, end);
      at_ = tag + 2 + (sign == '-' || sign == '+' ? 1 : 0);
      KVFERRY_TRY(kind == '#' ? skip_comment(trim_left) : read_tag(kind, tag, trim_left));
      line_start = at_ > 0 && source_[at_ - 1] == '\n';
    }
    add(TokenKind::kEnd, source_.size());
    return std::move(tokens_);
  }

 private:
  static Error unsupported(std::size_t offset, const std::string& what) {
    return Error(ErrorCode::kUnsupported, what + " at byte " + std::to_string(offset));
  }

  // Of the next {{, {% or {#; the end when there is none.
  std::size_t find_tag() const {
    for (std::size_t i = at_; i + 1 < source_.size(); ++i) {
      if (source_[i] != '{') continue;
      const char next = source_[i + 1];
      if (next == '{' || next == '%' || next == '#') return i;
    }
    return source_.size();
  }

  // The end of the text [begin, end) without spaces that are all that is on its last line.
  std::size_t without_indent(std::size_t begin, std::size_t end, bool line_start) const {
    std::size_t i = end;
    while (i > begin && source_[i - 1] != '\n' && is_space(source_[i - 1])) --i;
    const bool whole_line = i > begin ? source_[i - 1] == '\n' : line_start;
    return whole_line ? i : end;
  }

  Token& add(TokenKind kind, std::size_t offset) {
    tokens_.emplace_back();
    tokens_.back().kind = kind;
    tokens_.back().offset = offset;
    return tokens_.back();
  }

  void add_text(std::size_t begin, std::size_t end) {
    if (end > begin) add(TokenKind::kText, begin).text = source_.substr(begin, end - begin);
  }

  // After the closing marker: a line end goes with a statement or comment.
  void end_tag(bool drop_line_end) {
    if (drop_line_end && at_ < source_.size() && source_[at_] == '\n') ++at_;
  }

  Status skip_comment(bool& trim_left) {
    const std::size_t close = source_.find("#}", at_);
    if (close == std::string::npos) return unsupported(at_, "a comment without end");
    trim_left = close > at_ && source_[close - 1] == '-';
    at_ = close + 2;
    end_tag(true);
    return {};
  }

  // Tokens up to the tag's end.
  Status read_tag(char kind, std::size_t tag, bool& trim_left) {
    const bool output = kind == '{';
    const std::string_view close = output ? "}}" : "%}";
    const std::string_view all = source_;
    add(output ? TokenKind::kOutputBegin : TokenKind::kStatementBegin, tag).text =
        source_.substr(tag, 2);
    int open_braces = 0;  // of mapping literals, whose }} does not end the tag
    for (;;) {
      while (at_ < all.size() && is_space(all[at_])) ++at_;
      if (at_ == all.size()) return unsupported(tag, "a tag without end");
      const bool sign = all[at_] == '-' || all[at_] == '+';
      if (open_braces == 0 && all.substr(at_ + (sign ? 1 : 0), 2) == close) {
        trim_left = all[at_] == '-';
        add(output ? TokenKind::kOutputEnd : TokenKind::kStatementEnd, at_).text =
            std::string(close);
        at_ += sign ? 3 : 2;
        end_tag(!output);
        return {};
      }
      KVFERRY_TRY(read_token(open_braces));
    }
  }

  Status read_token(int& open_braces) {
    const char c = source_[at_];
    if (is_name_start(c)) {
      const std::size_t begin = at_;
      while (at_ < source_.size() && (is_name_start(source_[at_]) || is_digit(source_[at_]))) ++at_;
      add(TokenKind::kName, begin).text = source_.substr(begin, at_ - begin);
      return {};
    }
    if (is_digit(c)) return read_integer();
    if (c == '"' || c == '\'') return read_string(c);
    for (const std::string_view two : {"==", "!=", "<=", ">=", "//", "**"}) {
      if (std::string_view(source_).substr(at_, 2) == two) {
        add(TokenKind::kOperator, at_).text = std::string(two);
        at_ += 2;
        return {};
      }
    }
    if (std::string_view("+-*/%~<>=()[]{}.,:|").find(c) == std::string_view::npos) {
      return unsupported(at_, "character " + quoted(std::string(1, c)));
    }
    if (c == '{') ++open_braces;
    if (c == '}') --open_braces;
    add(TokenKind::kOperator, at_).text = std::string(1, c);
    ++at_;
    return {};
  }

  Status read_integer() {
    Token& token = add(TokenKind::kInteger, at_);
    while (at_ < source_.size() && is_digit(source_[at_])) {
      const int digit = source_[at_++] - '0';
      if (token.integer > (std::numeric_limits<std::int64_t>::max() - digit) / 10) {
        return unsupported(token.offset, "a number beyond 64 bits");
      }
      token.integer = token.integer * 10 + digit;
    }
    return {};
  }

  // The number of `digits` hexadecimal digits at `i`, or -1.
  std::int64_t hex(std::size_t i, std::size_t digits) const {
    if (digits > source_.size() - i) return -1;
    std::int64_t value = 0;
    for (std::size_t k = 0; k < digits; ++k) {
      const auto digit = std::string_view("0123456789abcdefABCDEF").find(source_[i + k]);
      if (digit == std::string_view::npos) return -1;
      value = value * 16 + static_cast<std::int64_t>(digit < 16 ? digit : digit - 6);
    }
    return value;
  }

  Status read_string(char quote) {
    const std::size_t begin = at_++;
    std::string text;
    while (at_ < source_.size() && source_[at_] != quote) {
      const char c = source_[at_++];
      if (c != '\\' || at_ == source_.size()) {
        text.push_back(c);
        continue;
      }
      const char escape = source_[at_++];
      static constexpr std::string_view kNames = "ntrabfv\\'\"\n";
      static constexpr std::string_view kMeanings = "\n\t\r\a\b\f\v\\'\"";
      const std::size_t known = kNames.find(escape);
      const std::size_t digits = escape == 'x' ? 2 : escape == 'u' ? 4 : escape == 'U' ? 8 : 0;
      if (known != std::string_view::npos) {
        if (escape != '\n') text.push_back(kMeanings[known]);
      } else if (digits != 0) {
        const std::int64_t code_point = hex(at_, digits);
        if (code_point < 0 || code_point > kMaxCodePoint) {
          return unsupported(at_, "an escape that is no character");
        }
        append_utf8(static_cast<std::uint32_t>(code_point), text);
        at_ += digits;
      } else {
        text.push_back('\\');
        text.push_back(escape);
      }
    }
    if (at_ == source_.size()) return unsupported(begin, "a string without end");
    ++at_;
    add(TokenKind::kString, begin).text = std::move(text);
    return {};
  }

  std::string source_;
  std::size_t at_ = 0;
  std::vector<Token> tokens_;
};

}  // namespace

Result<std::vector<Token>> tokenize_template(const std::string& source) {
  return Lexer(source).run();
}

}  // namespace jinja
}  // namespace kvferry
