// kvferry-client: asks a prefill node and streams the answer from the decode node.
#include <cstdio>
#include <iostream>
#include <string>

#include <nlohmann/json.hpp>

#include "kvferry/core/version.hpp"
#include "kvferry/node/client.hpp"

#include "cli/files.hpp"
#include "cli/interrupt.hpp"
#include "cli/model_options.hpp"
#include "cli/program.hpp"
#include "cli/prompt.hpp"
#include "cli/terminal.hpp"

namespace {

using namespace kvferry;

struct Options {
  ClientOptions client;
  cli::PromptOptions prompt;
  wire::Generate request;
  bool json = false;
  bool quiet = false;
};

const char* name_of(wire::FinishReason reason) {
  switch (reason) {
    case wire::FinishReason::kStop:
      return "stop";
    case wire::FinishReason::kLength:
      return "length";
    case wire::FinishReason::kCancelled:
      return "cancelled";
    case wire::FinishReason::kHandedOver:
      return "handed over";
  }
  return "unknown";
}

// A figure of a node's report, or 0.
double figure(const std::vector<std::pair<std::string, double>>& report, const char* name) {
  for (const auto& entry : report) {
    if (entry.first == name) return entry.second;
  }
  return 0;
}

void print_report(const GenerationResult& result) {
  const auto prefill = [&](const char* name) { return figure(result.prefill_report, name); };
  const auto decode = [&](const char* name) { return figure(result.decode_report, name); };
  const double gap = result.second_token_seconds > 0
                         ? result.second_token_seconds - result.first_token_seconds
                         : 0;
  std::fprintf(stderr,
               "\n"
               "tokens               %u prompt, %zu generated (%s)\n"
               "time to first token  %.1f ms\n"
               "hand-off gap         %.1f ms (first to second token)\n"
               "time per token       %.2f ms\n"
               "on the wire          %.0f bytes, %.2f times smaller than the cache as stored\n"
               "prefill node         wait %.1f, prefill %.1f, encode %.1f, send %.1f, "
               "commit %.1f ms\n"
               "decode node          receive %.1f, decode %.1f, write %.1f, commit %.1f, "
               "generate %.1f ms\n",
               result.prompt_tokens, result.tokens.size(), name_of(result.reason),
               1e3 * result.first_token_seconds, 1e3 * gap, 1e3 * decode("seconds_per_token"),
               prefill("wire_bytes"), prefill("ratio"), 1e3 * prefill("wait_seconds"),
               1e3 * prefill("prefill_seconds"), 1e3 * prefill("block_encode_seconds"),
               1e3 * prefill("send_seconds"), 1e3 * prefill("commit_seconds"),
               1e3 * decode("receive_seconds"), 1e3 * decode("block_decode_seconds"),
               1e3 * decode("write_seconds"), 1e3 * decode("commit_seconds"),
               1e3 * decode("decode_seconds"));
  if (prefill("model_data_bytes") > 0) {
    std::fprintf(stderr, "model data           %.0f bytes of codebook and predictor, sent once\n",
                 prefill("model_data_bytes"));
  }
  for (const auto& entry : result.prefill_report) {
    if (entry.first == "codebook" && entry.second == 0)
      std::fprintf(stderr, "%s\n", cli::kNoCodebook);
  }
}

void print_json(const GenerationResult& result) {
  const auto object = [](const std::vector<std::pair<std::string, double>>& report) {
    nlohmann::json out = nlohmann::json::object();
    for (const auto& entry : report) out[entry.first] = entry.second;
    return out;
  };
  const nlohmann::json out = {{"ids", result.tokens},
                              {"text", result.text},
                              {"reason", name_of(result.reason)},
                              {"prompt_tokens", result.prompt_tokens},
                              {"first_token_seconds", result.first_token_seconds},
                              {"second_token_seconds", result.second_token_seconds},
                              {"total_seconds", result.total_seconds},
                              {"prefill", object(result.prefill_report)},
                              {"decode", object(result.decode_report)}};
  std::cout << out.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace) << '\n';
}

Status run(Options& options) {
  if (!options.prompt.ids_file.empty()) {
    KVFERRY_ASSIGN(options.request.token_ids, cli::read_ids(options.prompt.ids_file, 0xffffffffu));
  } else if (options.prompt.text.empty()) {
    return Error(ErrorCode::kInvalidArgument, "the prompt is empty");
  } else {
    cli::set_prompt(options.prompt, options.prompt.text, options.request);
  }
  const auto on_text = [&](const std::string& text) {
    if (!options.json) cli::print_answer(text);
  };
  KVFERRY_ASSIGN(const GenerationResult result,
                 generate(options.client, options.request, on_text, cli::interrupted()));
  if (options.json) {
    print_json(result);
    return {};
  }
  std::cout << std::endl;
  if (!options.quiet) print_report(result);
  return {};
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app(
      "kvferry-client asks a prefill node, and prints the answer as the decode node generates it. "
      "The text goes to standard output, a report to standard error.\nCtrl-C cancels on both "
      "nodes.");
  app.set_version_flag("--version", "kvferry-client " KVFERRY_VERSION);
  app.footer(
      "Examples:\n"
      "  kvferry-client \"Why is the sky blue?\"\n"
      "  kvferry-client --prefill tcp://10.0.0.1:7701 --temperature 0.7 --seed 1 \"Tell a "
      "story.\"");
  Options options;
  options.request.max_tokens = 256;
  app.add_option("--prefill", options.client.prefill, "Address of the prefill node")
      ->default_val("tcp://127.0.0.1:7701");
  CLI::Option_group* prompt = app.add_option_group("prompt", "What the model is given");
  prompt->add_option("prompt", options.prompt.text, "The prompt");
  CLI::Option* ids = prompt->add_option("--ids-file", options.prompt.ids_file,
                                        "A file with a JSON array of token ids");
  prompt->require_option(1);
  cli::add_chat_options(app, options.prompt, ids);
  cli::add_sampler_options(app, options.request.sampler);
  app.add_option("--max-tokens", options.request.max_tokens,
                 "Tokens to generate; 0 = as many as there is room for")
      ->capture_default_str();
  app.add_flag("--ignore-eos", options.request.ignore_eos, "Go on past the end of the answer");
  app.add_option("--stop", options.request.stop, "Text that ends the answer; may be repeated")
      ->allow_extra_args(false)
      ->check([](const std::string& stop) {
        return stop.empty() ? std::string("a stop text needs at least one character")
                            : std::string();
      });
  cli::add_seconds(app, "--timeout", options.client.timeout,
                   "Seconds to wait for a token (default 120)");
  app.add_flag("--json", options.json,
               "One JSON object with the tokens and all figures, at the end");
  app.add_flag("--quiet", options.quiet, "No report");
  return cli::run_program(app, argc, argv, [&options] { return run(options); });
}
