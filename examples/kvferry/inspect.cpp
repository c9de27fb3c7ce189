// kvferry inspect: what a model file or a session file holds.
#include <fstream>
#include <iostream>
#include <memory>
#include <utility>

#include <nlohmann/json.hpp>

#include "kvferry/codec/profile.hpp"
#include "kvferry/core/quoted.hpp"
#include "kvferry/engine/describe.hpp"
#include "kvferry/engine/gguf.hpp"
#include "kvferry/handoff/session_file.hpp"

#include "command.hpp"

namespace kvferry::cli {
namespace {

struct Options {
  std::string file;
  bool json = false;
};

Status inspect_model(const Options& options) {
  KVFERRY_ASSIGN(GgufFile file, GgufFile::open(options.file));
  const std::string container = options.json ? describe_json(file) : describe(file);
  const auto model = ModelFile::from(std::move(file));
  if (model.ok()) {
    std::cout << (options.json ? describe_json(*model) : describe(*model));
    if (options.json) std::cout << '\n';
    return {};
  }
  // A sound container of a model that cannot be run is still worth showing.
  std::cout << container;
  if (options.json) std::cout << '\n';
  return Error(model.error().code, "this model cannot be run: " + model.error().message);
}

Status inspect_saved_session(const Options& options) {
  KVFERRY_ASSIGN(const SessionSummary summary, inspect_session(options.file));
  const wire::Offer& offer = summary.offer;
  const nlohmann::json out = {{"session",
                               {{"model", offer.identity.name},
                                {"architecture", offer.identity.architecture},
                                {"layers", offer.layers},
                                {"kv_heads", offer.kv_heads},
                                {"head_dim", offer.head_dim},
                                {"type", name_of(offer.type)},
                                {"profile", name_of(static_cast<Profile>(offer.profile))},
                                {"path", offer.provenance.path},
                                {"weights", offer.provenance.weight_format},
                                {"tokens", offer.tokens.size()},
                                {"blocks", summary.blocks},
                                {"payload_bytes", summary.payload_bytes},
                                {"codebook_bytes", offer.codebook_bytes},
                                {"file_bytes", summary.file_bytes}}}};
  if (options.json) {
    std::cout << out.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace) << '\n';
    return {};
  }
  std::cout << "session file, complete and checked\n";
  for (const auto& [key, value] : out["session"].items()) {
    std::cout << "  " << key << ": "
              << value.dump(-1, ' ', true, nlohmann::json::error_handler_t::replace) << '\n';
  }
  return {};
}

Status run(const Options& options) {
  std::ifstream file(options.file, std::ios::binary);
  char magic[4] = {};
  file.read(magic, sizeof magic);
  const std::string start(magic, static_cast<std::size_t>(file.gcount()));
  if (start == "KVFY") return inspect_saved_session(options);
  return inspect_model(options);
}

}  // namespace

void add_inspect(CLI::App& app, Command& chosen) {
  const auto options = std::make_shared<Options>();
  CLI::App* command = app.add_subcommand(
      "inspect", "Show what a GGUF model file or a saved session holds, and check it");
  command->add_option("file", options->file, "GGUF or session file")->required();
  command->add_flag("--json", options->json, "One JSON object");
  command->callback([options, &chosen] { chosen = [options] { return run(*options); }; });
}

}  // namespace kvferry::cli
