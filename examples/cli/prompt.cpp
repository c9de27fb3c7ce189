#include "prompt.hpp"

#include <utility>

#include "files.hpp"

namespace kvferry::cli {

void add_prompt_options(CLI::App& command, PromptOptions& options) {
  CLI::Option_group* prompt = command.add_option_group("prompt", "What the model is given");
  prompt->add_option("--prompt", options.text, "The prompt");
  prompt->add_option("--prompt-file", options.file, "A file with the prompt; - = standard input");
  CLI::Option* ids =
      prompt->add_option("--ids-file", options.ids_file, "A file with a JSON array of token ids");
  prompt->require_option(1);
  add_chat_options(command, options, ids);
}

void add_chat_options(CLI::App& command, PromptOptions& options, CLI::Option* ids) {
  CLI::Option* raw =
      command.add_flag("--raw", options.raw, "Take the prompt as it is, not as a chat message")
          ->excludes(ids);
  command.add_option("--system", options.system, "System message in front of the prompt")
      ->excludes(raw)
      ->excludes(ids);
}

void set_prompt(const PromptOptions& options, std::string text, wire::Generate& request) {
  if (options.raw) {
    request.text = std::move(text);
    return;
  }
  if (!options.system.empty()) request.messages.push_back({"system", options.system});
  request.messages.push_back({"user", std::move(text)});
}

Result<std::vector<TokenId>> prompt_tokens(const LoadedModel& model, const PromptOptions& options) {
  wire::Generate request;
  if (!options.ids_file.empty()) {
    KVFERRY_ASSIGN(request.token_ids, read_ids(options.ids_file, model.config().vocab));
    return model.prompt_tokens(request);
  }
  std::string text = options.text;
  if (!options.file.empty()) {
    KVFERRY_ASSIGN(text, read_file(options.file));
  }
  if (text.empty()) return Error(ErrorCode::kInvalidArgument, "the prompt is empty");
  set_prompt(options, std::move(text), request);
  return model.prompt_tokens(request);
}

}  // namespace kvferry::cli
