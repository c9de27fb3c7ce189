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

// --system and --raw, which do not go with token ids.
void add_chat_options(CLI::App& command, PromptOptions& options, CLI::Option* ids);

// Puts `text` into a request: as it is with --raw, else as the user's message after --system.
void set_prompt(const PromptOptions& options, std::string text, wire::Generate& request);

// The prompt as token ids of this model.
Result<std::vector<TokenId>> prompt_tokens(const LoadedModel& model, const PromptOptions& options);

}  // namespace kvferry::cli
