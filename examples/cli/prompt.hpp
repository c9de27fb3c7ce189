// The prompt options of the programs: text, a file, or token ids.
#pragma once

#include <string>

#include <CLI/CLI.hpp>

#include "kvferry/core/result.hpp"
#include "kvferry/node/loaded_model.hpp"

namespace kvferry::cli {

struct PromptOptions {
  std::string text;
  std::string file;
  std::string ids_file;
  std::string system;
  bool raw = false;
};

// --prompt, --prompt-file, --ids-file (exactly one is required), --system, --raw.
void add_prompt_options(CLI::App& command, PromptOptions& options);

// The prompt as token ids: text goes through the model's chat template unless --raw says not to or
// the model has none (a base model).
Result<std::vector<TokenId>> prompt_tokens(const LoadedModel& model, const PromptOptions& options);

}  // namespace kvferry::cli
