#include "kvferry/engine/chat_template.hpp"

#include <string_view>
#include <utility>

#include "kvferry/core/quoted.hpp"

#include "interpreter.hpp"
#include "syntax.hpp"

namespace kvferry {
namespace {

// Steps that a run may take (jinja::Interpreter). Real templates take some hundreds a message.
constexpr std::uint64_t kBudget = 1'000'000;
constexpr std::uint64_t kBudgetPerMessage = 20'000;
constexpr std::uint64_t kBudgetPerByte = 64;  // of content

constexpr const char* kAdvice =
    "; pass a prompt that is already in the model's format, without the template (--raw)";

Error about_template(const Error& error) {
  if (error.code == ErrorCode::kInvalidArgument) return error;
  return Error(error.code,
               "the model's chat template (tokenizer.chat_template) is not supported: "
               "it has " +
                   error.message + kAdvice);
}

Status check(Span<const ChatMessage> messages) {
  if (messages.empty()) return Error(ErrorCode::kInvalidArgument, "a chat without messages");
  std::size_t size = 0;
  for (std::size_t i = 0; i < messages.size(); ++i) {
    const std::string& role = messages[i].role;
    if (role != "system" && role != "user" && role != "assistant") {
      return Error(ErrorCode::kInvalidArgument, "role " + quoted(role, 40) + " of message " +
                                                    std::to_string(i) +
                                                    "; roles are system, user and assistant");
    }
    if (messages[i].content.size() > kMaxTextBytes - size) {
      return Error(ErrorCode::kResourceExhausted,
                   "a chat of more than " + std::to_string(kMaxTextBytes) + " bytes");
    }
    size += messages[i].content.size();
  }
  return {};
}

Result<jinja::Value> messages_value(Span<const ChatMessage> messages) {
  std::vector<jinja::Value> items;
  for (const ChatMessage& message : messages) {
    KVFERRY_ASSIGN(jinja::Value item,
                   jinja::Value::make_mapping(
                       {{"role", jinja::Text(message.role)},
                        {"content", jinja::Text(message.content, jinja::kFromMessage)}}));
    items.push_back(std::move(item));
  }
  return jinja::Value::make_list(std::move(items));
}

}  // namespace

struct ChatTemplate::Program {
  jinja::Block block;
  jinja::Interpreter::Variables special_tokens;  // bos_token, …

  Result<jinja::Text> run(Span<const ChatMessage> messages, bool add_generation_prompt) const {
    KVFERRY_TRY(check(messages));
    jinja::Interpreter::Variables globals = special_tokens;
    KVFERRY_ASSIGN(globals["messages"], messages_value(messages));
    globals["add_generation_prompt"] = add_generation_prompt;
    // Transformers passes these as none when there are none.
    globals["tools"] = jinja::None{};
    globals["documents"] = jinja::None{};
    std::uint64_t budget = kBudget + kBudgetPerMessage * messages.size();
    for (const ChatMessage& message : messages) budget += kBudgetPerByte * message.content.size();
    auto result = jinja::Interpreter(std::move(globals), budget).run(block);
    if (!result.ok()) return about_template(result.error());
    return result;
  }
};

ChatTemplate::ChatTemplate(std::shared_ptr<const Program> program) : program_(std::move(program)) {}

Result<ChatTemplate> ChatTemplate::from(const Vocabulary& vocabulary) {
  if (vocabulary.chat_template.empty()) {
    return Error(ErrorCode::kNotFound,
                 std::string("the model has no chat template (tokenizer.chat_template)") + kAdvice);
  }
  auto program = std::make_shared<Program>();
  auto block = jinja::parse_template(vocabulary.chat_template);
  if (!block.ok()) return about_template(block.error());
  program->block = std::move(*block);
  const std::pair<const char*, TokenId> special[] = {{"bos_token", vocabulary.bos},
                                                     {"eos_token", vocabulary.eos},
                                                     {"unk_token", vocabulary.unknown}};
  for (const auto& token : special) {
    if (token.second < vocabulary.tokens.size()) {
      program->special_tokens[token.first] = jinja::Text(vocabulary.tokens[token.second]);
    }
  }
  return ChatTemplate(std::move(program));
}

Result<std::string> ChatTemplate::render(Span<const ChatMessage> messages,
                                         bool add_generation_prompt) const {
  KVFERRY_ASSIGN(const jinja::Text text, program_->run(messages, add_generation_prompt));
  return text.bytes();
}

Result<std::vector<TokenId>> tokenize_chat(const Tokenizer& tokenizer,
                                           const ChatTemplate& chat_template,
                                           Span<const ChatMessage> messages,
                                           bool add_generation_prompt) {
  KVFERRY_ASSIGN(const jinja::Text text,
                 chat_template.program_->run(messages, add_generation_prompt));
  const std::string_view bytes = text.bytes();
  std::vector<TextPart> parts;
  for (std::size_t begin = 0; begin < bytes.size();) {
    const char origin = text.origins()[begin];
    std::size_t end = text.origins().find_first_not_of(origin, begin);
    if (end == std::string::npos) end = bytes.size();
    parts.push_back({bytes.substr(begin, end - begin), origin == jinja::kFromTemplate});
    begin = end;
  }
  KVFERRY_ASSIGN(std::vector<TokenId> tokens, tokenizer.tokenize(parts));
  const Vocabulary& v = tokenizer.vocabulary();
  if (v.add_bos && (tokens.empty() || tokens[0] != v.bos)) tokens.insert(tokens.begin(), v.bos);
  return tokens;
}

}  // namespace kvferry
