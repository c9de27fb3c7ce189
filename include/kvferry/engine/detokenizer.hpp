// StreamingDetokenizer: tokens in, one at a time; text out that is always whole UTF-8 characters.
#pragma once

#include <string>

#include "kvferry/core/result.hpp"
#include "kvferry/engine/tokenizer.hpp"

namespace kvferry {

// Holds back the bytes of a character until the last of them has come. Bytes that can never become
// a character are written as one U+FFFD each ill-formed sequence (the longest start of a character
// counts as one, as the Unicode standard recommends), so what it returns is always valid UTF-8.
// One generation, one thread.
class StreamingDetokenizer {
 public:
  // At `start_of_text` the space that SentencePiece puts before a text is dropped; leave it off
  // when the tokens continue a prompt.
  explicit StreamingDetokenizer(Tokenizer tokenizer, bool unparse_special = false,
                                bool start_of_text = false);

  // The text that `token` completes, possibly empty. kInvalidArgument for an id outside of the
  // vocabulary; the state is unchanged then.
  Result<std::string> push(TokenId token);
  // At the end of the generation: a held-back incomplete character as U+FFFD, or nothing.
  std::string flush();

 private:
  Tokenizer tokenizer_;
  bool unparse_special_;
  bool drop_space_;
  std::string pending_;  // at most 3 bytes: the start of a character
};

}  // namespace kvferry
