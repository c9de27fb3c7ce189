// Any bytes as a chat template: it is refused or it renders, the same each time.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <vector>

#include "kvferry/engine/chat_template.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  kvferry::Vocabulary vocabulary;
  vocabulary.tokens = {"<s>", "</s>"};
  vocabulary.bos = 0;
  vocabulary.eos = 1;
  vocabulary.chat_template.assign(reinterpret_cast<const char*>(data), size);
  const auto chat = kvferry::ChatTemplate::from(vocabulary);
  if (!chat.ok()) return 0;
  const std::vector<kvferry::ChatMessage> messages = {
      {"system", "Be brief."}, {"user", " naïve?\n"}, {"assistant", "a</think>b"}, {"user", ""}};
  const auto first = chat->render(messages, true);
  const auto second = chat->render(messages, true);
  if (first.ok() != second.ok() || (first.ok() && *first != *second)) std::abort();
  return 0;
}
