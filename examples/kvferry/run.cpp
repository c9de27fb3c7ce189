// kvferry run: a prompt through a model on this machine.
#include <iomanip>
#include <iostream>
#include <memory>
#include <optional>
#include <utility>

#include <nlohmann/json.hpp>

#include "kvferry/core/atomic_file.hpp"
#include "kvferry/node/first_token.hpp"

#include "answer.hpp"
#include "cli/files.hpp"
#include "cli/interrupt.hpp"
#include "cli/model_options.hpp"
#include "cli/prompt.hpp"
#include "command.hpp"
#include "generation.hpp"

namespace kvferry::cli {
namespace {

struct Options {
  ModelOptions model;
  PromptOptions prompt;
  SamplerParams sampler;
  std::optional<std::uint32_t> max_tokens;
  std::uint32_t chunk = kDefaultChunkTokens;
  bool ignore_eos = false;
  std::string force_ids;
  std::string full_logits;
  std::uint32_t top_logits = 0;
  std::string handoff = "none";
  bool json = false;
};

nlohmann::json step_json(Span<const float> logits, std::uint32_t top) {
  nlohmann::json entries = nlohmann::json::array();
  for (const wire::TopLogit& entry : kvferry::top_logits(logits, top)) {
    entries.push_back({entry.token, entry.logit});
  }
  return {{"top", std::move(entries)}, {"logsumexp", log_sum_exp(logits)}};
}

double per_second(std::size_t tokens, double seconds) {
  return seconds > 0 ? static_cast<double>(tokens) / seconds : 0.0;
}

nlohmann::json timing_json(const GenerationTiming& timing, std::size_t prompt, std::size_t steps) {
  return {{"prefill_seconds", timing.prefill_seconds},
          {"prefill_tokens_per_second", per_second(prompt, timing.prefill_seconds)},
          {"handoff_seconds", timing.handoff_seconds},
          {"decode_seconds", timing.decode_seconds},
          {"decode_tokens_per_second", per_second(steps, timing.decode_seconds)}};
}

void print_report(const Generation& generation, std::size_t prompt, bool without_codebook) {
  const GenerationTiming& timing = generation.timing;
  const std::size_t steps = generation.tokens.empty() ? 0 : generation.tokens.size() - 1;
  std::cerr << std::fixed << std::setprecision(1) << "\nprompt " << prompt << " tokens, "
            << per_second(prompt, timing.prefill_seconds) << " tokens/s; answer "
            << generation.tokens.size() << " tokens, " << per_second(steps, timing.decode_seconds)
            << " tokens/s";
  if (generation.handoff) {
    std::cerr << "; hand-off " << generation.handoff->sender.wire_bytes << " bytes, ratio "
              << generation.handoff->sender.ratio() << ", " << 1e3 * timing.handoff_seconds
              << " ms after the prefill";
  }
  std::cerr << '\n';
  if (generation.handoff && without_codebook) std::cerr << kNoCodebook << '\n';
}

Status run(const Options& options) {
  GenerationRequest request;
  if (options.handoff != "none") {
    KVFERRY_ASSIGN(request.handoff, profile_from_name(options.handoff));
  }
  if (!options.full_logits.empty()) {
    KVFERRY_TRY(check_output(options.full_logits, {options.model.file, options.prompt.file,
                                                   options.prompt.ids_file, options.force_ids}));
  }
  KVFERRY_ASSIGN(const LoadedModel model, LoadedModel::load(options.model));
  KVFERRY_ASSIGN(request.prompt, prompt_tokens(model, options.prompt));
  if (!options.force_ids.empty()) {
    KVFERRY_ASSIGN(request.forced, read_ids(options.force_ids, model.config().vocab));
  }
  const auto forced = static_cast<std::uint32_t>(request.forced.size());
  request.max_tokens = options.max_tokens.value_or(forced != 0 ? forced : kDefaultMaxTokens);
  request.sampler = options.sampler;
  request.ignore_eos = options.ignore_eos;
  request.chunk = options.chunk;
  std::optional<AtomicFile> full_logits;
  if (!options.full_logits.empty()) {
    KVFERRY_ASSIGN(AtomicFile file, AtomicFile::create(options.full_logits, FileAccess::kCommon));
    full_logits.emplace(std::move(file));
  }

  const std::atomic<bool>& cancel = interrupted();
  nlohmann::json steps = nlohmann::json::array();
  AnswerText answer(model.tokenizer, !options.json);
  const auto on_step = [&](TokenId token, Span<const float> logits) -> Status {
    if (options.json) steps.push_back(step_json(logits, options.top_logits));
    if (full_logits) KVFERRY_TRY(full_logits->write(as_bytes(logits)));
    return answer.push(token);
  };
  std::vector<float> logits;
  KVFERRY_ASSIGN(Generation generation, prefill(model, request, logits, cancel));
  KVFERRY_TRY(decode(model, request, logits, generation, on_step, cancel));
  answer.finish();
  if (full_logits) KVFERRY_TRY(full_logits->commit());

  const bool without_codebook = request.handoff && is_quantised(*request.handoff) &&
                                !generation.handoff->sender.used_codebook;
  if (!options.json) {
    std::cout << '\n';
    print_report(generation, request.prompt.size(), without_codebook);
    return {};
  }
  const std::size_t step_count = generation.tokens.empty() ? 0 : generation.tokens.size() - 1;
  nlohmann::json out = {
      {"prompt_tokens", request.prompt.size()},
      {"ids", generation.tokens},
      {"text", answer.text()},
      {"steps", std::move(steps)},
      {"timing", timing_json(generation.timing, request.prompt.size(), step_count)},
      {"wire_bytes", generation.handoff ? generation.handoff->sender.wire_bytes : 0},
  };
  if (without_codebook) out["note"] = kNoCodebook;
  std::cout << out.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace) << '\n';
  return {};
}

}  // namespace

void add_run(CLI::App& app, Command& chosen) {
  const auto options = std::make_shared<Options>();
  CLI::App* command = app.add_subcommand(
      "run", "Run a prompt through a model on this machine, with or without a hand-off between");
  add_model_options(*command, options->model);
  add_codec_options(*command, options->model);
  add_prompt_options(*command, options->prompt);
  add_sampler_options(*command, options->sampler);
  command->add_option("--max-tokens", options->max_tokens,
                      "Tokens to generate; 0 = as many as there is room for (default 256, or as "
                      "many as are forced)");
  command->add_flag("--ignore-eos", options->ignore_eos, "Go on past the end of the answer");
  command
      ->add_option("--chunk", options->chunk,
                   "Prompt tokens computed together; the result is equal")
      ->capture_default_str()
      ->check(CLI::Range(1, 1 << 20));
  command
      ->add_option(
          "--handoff", options->handoff,
          std::string("Send the cache through encode, frames and decode between prefill and "
                      "decode: none, ") +
              kProfileNames)
      ->capture_default_str();
  command->add_option("--force-ids", options->force_ids,
                      "A JSON array of token ids that the continuation begins with");
  command->add_option("--full-logits", options->full_logits,
                      "Write the logits of every step here, F32 [steps, vocab], little-endian");
  CLI::Option* json = command->add_flag(
      "--json", options->json,
      "One JSON object: ids, text, steps (what chose each token), timing, wire_bytes");
  command
      ->add_option("--top-logits", options->top_logits,
                   "With --json: the K largest logits of every step")
      ->needs(json);
  command->callback([options, &chosen] { chosen = [options] { return run(*options); }; });
}

}  // namespace kvferry::cli
