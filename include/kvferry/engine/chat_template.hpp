// ChatTemplate: messages to the prompt text that a model was trained on.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "kvferry/core/result.hpp"
#include "kvferry/core/span.hpp"
#include "kvferry/engine/tokenizer.hpp"
#include "kvferry/model/chat.hpp"

namespace kvferry {

// The common forms. A model's Jinja source is recognised by what it writes, not run.
enum class ChatForm : std::uint8_t {
  kChatMl,  // <|im_start|>role\n…<|im_end|>\n
  kLlama2,  // [INST] <<SYS>>\n…\n<</SYS>>\n\n… [/INST] … </s>
  kLlama3,  // <|start_header_id|>role<|end_header_id|>\n\n…<|eot_id|>
  kZephyr,  // <|role|>\n…</s>\n
};

// Renders as the model's own template does for plain messages (no tools, no images): its default
// system message included, white space trimmed where the template trims it.
class ChatTemplate {
 public:
  // From vocabulary.chat_template. kUnsupported for a form that is none of ChatForm, kNotFound when
  // the model has no template; both suggest to pass the prompt as it is (--raw).
  static Result<ChatTemplate> from(const Vocabulary& vocabulary);

  ChatForm form() const { return form_; }

  // The prompt text, bos included where the template writes it. With `add_generation_prompt` the
  // text ends where the assistant's answer begins. kInvalidArgument for no message, an unknown
  // role, or an order that the template refuses (a system message that is not the first; Llama 2:
  // user and assistant in turn).
  Result<std::string> render(Span<const ChatMessage> messages,
                             bool add_generation_prompt = true) const;

 private:
  ChatTemplate() = default;

  ChatForm form_ = ChatForm::kChatMl;
};

// Renders and tokenises: the template's own markers are parsed as special tokens, control tokens
// spelled out inside a message are not, and bos is there exactly once where the model wants it.
Result<std::vector<TokenId>> tokenize_chat(const Tokenizer& tokenizer, const ChatTemplate& form,
                                           Span<const ChatMessage> messages,
                                           bool add_generation_prompt = true);

}  // namespace kvferry
