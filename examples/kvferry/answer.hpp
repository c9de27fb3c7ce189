// AnswerText: generated tokens to text on standard output, and all of it for JSON.
#pragma once

#include <string>

#include "kvferry/node/text_stream.hpp"

#include "cli/terminal.hpp"

namespace kvferry::cli {

class AnswerText {
 public:
  // `show`: print the text as it comes.
  AnswerText(const Tokenizer& tokenizer, bool show) : stream_(tokenizer, {}), show_(show) {}

  Status push(TokenId token) {
    KVFERRY_ASSIGN(const std::string part, stream_.push(token));
    add(part);
    return {};
  }
  // After the last token.
  void finish() { add(stream_.flush()); }

  const std::string& text() const { return text_; }

 private:
  void add(const std::string& part) {
    text_ += part;
    if (show_) print_answer(part);
  }

  TextStream stream_;
  const bool show_;
  std::string text_;
};

}  // namespace kvferry::cli
