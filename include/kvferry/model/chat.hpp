// ChatMessage: one turn of a conversation, before the model's template makes it text.
#pragma once

#include <string>

namespace kvferry {

struct ChatMessage {
  std::string role;  // "system", "user" or "assistant"
  std::string content;
};

}  // namespace kvferry
