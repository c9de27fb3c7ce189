// kvferry save, kvferry load: the cache of a prompt in a file, and the answer generated from it.
#include <fstream>
#include <iostream>
#include <memory>
#include <utility>

#include <nlohmann/json.hpp>

#include "kvferry/cache/sequence_adapters.hpp"
#include "kvferry/core/quoted.hpp"
#include "kvferry/handoff/session_file.hpp"
#include "kvferry/node/offer.hpp"

#include "answer.hpp"
#include "cli/interrupt.hpp"
#include "cli/model_options.hpp"
#include "cli/prompt.hpp"
#include "command.hpp"
#include "generation.hpp"

namespace kvferry::cli {
namespace {

struct SaveOptions {
  ModelOptions model;
  PromptOptions prompt;
  std::string profile = "lossless";
  std::string file;
};

struct LoadOptions {
  ModelOptions model;
  SamplerParams sampler;
  std::uint32_t max_tokens = kDefaultMaxTokens;
  bool ignore_eos = false;
  bool json = false;
  std::string file;
};

// A session replaces a session, and nothing else.
Status check_target(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::string magic(4, '\0');
  if (!file.is_open()) return {};
  file.read(&magic[0], 4);
  if (file.gcount() == 0 || magic == "KVFY") return {};
  return Error(ErrorCode::kInvalidArgument,
               quoted(path, 512) +
                   " is there and is not a saved session; remove it first, or save "
                   "to another file");
}

Status save(const SaveOptions& options) {
  KVFERRY_ASSIGN(const Profile profile, profile_from_name(options.profile));
  KVFERRY_TRY(check_target(options.file));
  KVFERRY_ASSIGN(const LoadedModel model, LoadedModel::load(options.model));
  GenerationRequest request;
  KVFERRY_ASSIGN(request.prompt, prompt_tokens(model, options.prompt));
  std::vector<float> logits;
  KVFERRY_ASSIGN(const Generation generation, prefill(model, request, logits, interrupted()));
  const SequenceSource source(generation.sequence);
  KVFERRY_TRY(save_session(options.file, source, make_offer(model, request.prompt, profile),
                           model.codebook));
  std::cerr << "saved " << request.prompt.size() << " tokens to " << options.file << '\n';
  return {};
}

// The last token is computed again from the cache of those before it: its logits are not saved.
Status load(const LoadOptions& options) {
  KVFERRY_ASSIGN(const LoadedModel model, LoadedModel::load(options.model));
  const std::shared_ptr<KvSequence> sequence = KvSequence::create(model.pool);
  SequenceSink sink(sequence);
  KVFERRY_TRY(load_session(options.file, model.identity,
                           [&](const wire::Offer&) -> Result<KvSink*> { return &sink; }));
  GenerationRequest request;
  request.prompt = sequence->tokens();
  request.sampler = options.sampler;
  request.max_tokens = options.max_tokens;
  request.ignore_eos = options.ignore_eos;
  KVFERRY_TRY(sequence->truncate(sequence->length() - 1));
  const DecodeInput last{sequence.get(), request.prompt.back()};
  std::vector<float> logits(model.config().vocab);
  KVFERRY_TRY(model.engine->step(Span<const DecodeInput>(&last, 1), Span<float>(logits)));

  Generation generation;
  generation.sequence = sequence;
  AnswerText answer(model.tokenizer, !options.json);
  KVFERRY_TRY(decode(
      model, request, logits, generation,
      [&](TokenId token, Span<const float>) { return answer.push(token); }, interrupted()));
  answer.finish();
  if (options.json) {
    const nlohmann::json out = {{"prompt_tokens", request.prompt.size()},
                                {"ids", generation.tokens},
                                {"text", answer.text()}};
    std::cout << out.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace) << '\n';
  } else {
    std::cout << '\n';
  }
  return {};
}

}  // namespace

void add_save(CLI::App& app, Command& chosen) {
  const auto options = std::make_shared<SaveOptions>();
  CLI::App* command =
      app.add_subcommand("save", "Prefill a prompt and save its KV cache to a file");
  add_model_options(*command, options->model);
  add_prompt_options(*command, options->prompt);
  command->add_option("--profile", options->profile, kProfileNames)->capture_default_str();
  add_codebook_option(*command, options->model);
  command->add_option("file", options->file, "The session file to write")->required();
  command->callback([options, &chosen] { chosen = [options] { return save(*options); }; });
}

void add_load(CLI::App& app, Command& chosen) {
  const auto options = std::make_shared<LoadOptions>();
  CLI::App* command =
      app.add_subcommand("load", "Load a saved KV cache and generate what follows it");
  add_model_options(*command, options->model);
  add_sampler_options(*command, options->sampler);
  command
      ->add_option("--max-tokens", options->max_tokens,
                   "Tokens to generate; 0 = as many as there is room for")
      ->capture_default_str();
  command->add_flag("--ignore-eos", options->ignore_eos, "Go on past the end of the answer");
  command->add_flag("--json", options->json, "One JSON object: ids, text");
  command->add_option("file", options->file, "The session file to read")->required();
  command->callback([options, &chosen] { chosen = [options] { return load(*options); }; });
}

}  // namespace kvferry::cli
