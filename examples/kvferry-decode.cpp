// kvferry-decode: takes KV caches from prefill nodes and streams tokens to clients.
#include <unistd.h>

#include "kvferry/codec/predictor.hpp"
#include "kvferry/core/version.hpp"
#include "kvferry/node/decode_node.hpp"

#include "cli/model_options.hpp"
#include "cli/node_program.hpp"
#include "cli/program.hpp"

int main(int argc, char** argv) {
  using namespace kvferry;
  CLI::App app(
      "kvferry-decode takes KV caches from prefill nodes, generates from them, and streams the "
      "tokens to clients.\nIt prints \"listening on tcp://host:port\" once it is ready. Stop it "
      "with Ctrl-C.");
  app.set_version_flag("--version", "kvferry-decode " KVFERRY_VERSION);
  app.footer(
      "Example:\n"
      "  kvferry-decode --model m.gguf --listen tcp://10.0.0.2:7702 --allow-public");
  DecodeNodeOptions options;
  options.server.listen = "tcp://127.0.0.1:7702";
  cli::add_model_options(app, options.model);
  cli::add_codebook_option(app, options.model);
  bool predict = true;
  cli::add_switch(app, "--predict", predict,
                  "Take hand-offs that are predicted across layers, which cost a matrix product a "
                  "block here; the predictor is the .kvfp file beside the codebook, or comes from "
                  "the prefill node");
  cli::add_server_options(app, options.server);
  app.add_option("--max-sequences", options.max_sequences, "Sequences decoded at a time")
      ->capture_default_str()
      ->check(CLI::Range(1, 65536));
  cli::add_seconds(app, "--ticket-lifetime", options.ticket_lifetime,
                   "Seconds that a client has to come for its tokens (default 30)");
  options.model_data_folder = cli::model_data_folder();
  app.add_option("--model-data", options.model_data_folder,
                 "Folder for codebooks and predictors of prefill nodes, so that they travel once; "
                 "empty keeps them in memory alone")
      ->capture_default_str();
  std::uint64_t max_predictor_mib = options.max_predictor_bytes >> 20;
  app.add_option("--max-predictor", max_predictor_mib,
                 "Largest predictor that is taken from a prefill node, MiB")
      ->capture_default_str()
      ->check(CLI::Range(0, 1024));
  return cli::run_program(app, argc, argv, [&]() -> Status {
    options.max_predictor_bytes = predict ? max_predictor_mib << 20 : 0;
    options.model.predict =
        predict && !options.model.codebook.empty() &&
        ::access(Predictor::path_beside(options.model.codebook).c_str(), F_OK) == 0;
    KVFERRY_ASSIGN(const std::unique_ptr<DecodeNode> node,
                   DecodeNode::start(options, cli::log_to_stderr()));
    cli::serve_until_interrupted(node->address());
    return {};
  });
}
