// kvferry-prefill: takes prompts from clients, computes their KV caches and hands them over.
#include "kvferry/core/version.hpp"
#include "kvferry/node/prefill_node.hpp"

#include "cli/model_options.hpp"
#include "cli/node_program.hpp"
#include "cli/program.hpp"

int main(int argc, char** argv) {
  using namespace kvferry;
  CLI::App app(
      "kvferry-prefill takes prompts from clients, computes their KV caches and hands them to a "
      "decode node while it computes.\nIt prints \"listening on tcp://host:port\" once it is "
      "ready. Stop it with Ctrl-C.");
  app.set_version_flag("--version", "kvferry-prefill " KVFERRY_VERSION);
  app.footer(
      "Example:\n"
      "  kvferry-prefill --model m.gguf --decode tcp://10.0.0.2:7702 --listen tcp://10.0.0.1:7701 "
      "--allow-public");
  PrefillNodeOptions options;
  options.server.listen = "tcp://127.0.0.1:7701";
  std::string profile = name_of(options.profile);
  cli::add_model_options(app, options.model);
  cli::add_codec_options(app, options.model);
  cli::add_server_options(app, options.server);
  app.add_option("--decode", options.decode, "Address of the decode node, tcp://host:port")
      ->required();
  app.add_option("--decode-for-clients", options.decode_for_clients,
                 "Address of the decode node that clients are told, when they reach it by another");
  app.add_option("--profile", profile, std::string("How the cache travels: ") + kProfileNames)
      ->capture_default_str();
  cli::add_switch(app, "--classes", options.token_classes,
                  "Quantise tokens more finely that get much attention");
  app.add_flag("--predictor-ahead", options.predictor_ahead,
               "With --predict on, a decode node that lacks the predictor gets it ahead of the "
               "cache, which waits for it; otherwise behind it, for the next prompt");
  app.add_option("--chunk", options.chunk, "Prompt tokens computed together")
      ->capture_default_str()
      ->check(CLI::Range(1, 1 << 20));
  return cli::run_program(app, argc, argv, [&]() -> Status {
    KVFERRY_ASSIGN(options.profile, profile_from_name(profile));
    KVFERRY_ASSIGN(const std::unique_ptr<PrefillNode> node,
                   PrefillNode::start(options, cli::log_to_stderr()));
    cli::serve_until_interrupted(node->address());
    return {};
  });
}
