// ChatTemplate: messages to the prompt text that a model was trained on.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "kvferry/core/result.hpp"
#include "kvferry/core/span.hpp"
#include "kvferry/engine/tokenizer.hpp"
#include "kvferry/model/chat.hpp"

namespace kvferry {

// Runs the Jinja template that comes with a model: the part of Jinja that chat templates use, with
// white space and variables as Transformers has them for plain messages (no tools, no documents; a
// template that asks for today's date gets its own fixed one). What a template needs beyond that is
// an error, never a prompt that is slightly wrong. Templates come from files and may be hostile: a
// run is bounded in time, memory and stack. Immutable; any number of threads may use one.
class ChatTemplate {
 public:
  // Reads vocabulary.chat_template. kNotFound when the model has none, kUnsupported when it has
  // something that cannot be read; both messages suggest to pass the prompt as it is (--raw).
  static Result<ChatTemplate> from(const Vocabulary& vocabulary);

  // The prompt text. With `add_generation_prompt` it ends where the assistant's answer begins.
  // kInvalidArgument for no message, an unknown role, or messages that the template refuses (e.g.
  // roles that do not alternate); kUnsupported and kResourceExhausted for a template that this
  // cannot run.
  Result<std::string> render(Span<const ChatMessage> messages,
                             bool add_generation_prompt = true) const;

 private:
  friend Result<std::vector<TokenId>> tokenize_chat(const Tokenizer&, const ChatTemplate&,
                                                    Span<const ChatMessage>, bool);
  struct Program;
  explicit ChatTemplate(std::shared_ptr<const Program> program);
  std::shared_ptr<const Program> program_;
};

// Renders and tokenises. The template's own markers are control tokens; control tokens spelled out
// in a message stay text, so that a message cannot speak as another role. bos comes first exactly
// once if the vocabulary adds one or the template writes it. Errors are those of both.
Result<std::vector<TokenId>> tokenize_chat(const Tokenizer& tokenizer,
                                           const ChatTemplate& chat_template,
                                           Span<const ChatMessage> messages,
                                           bool add_generation_prompt = true);

}  // namespace kvferry
