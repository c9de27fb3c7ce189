// kvferry tokenize: strings to token ids, as other programs want them (JSON in, JSON out).
#include <iostream>
#include <memory>

#include <nlohmann/json.hpp>

#include "kvferry/engine/gguf.hpp"
#include "kvferry/engine/tokenizer.hpp"

#include "cli/files.hpp"
#include "command.hpp"

namespace kvferry::cli {
namespace {

struct Options {
  std::string model;
  bool json = false;
  TokenizeOptions tokenize;
};

Status run(const Options& options) {
  KVFERRY_ASSIGN(const GgufFile file, GgufFile::open(options.model));
  KVFERRY_ASSIGN(Vocabulary vocabulary, vocabulary_from(file));
  KVFERRY_ASSIGN(const Tokenizer tokenizer, Tokenizer::create(std::move(vocabulary)));
  KVFERRY_ASSIGN(const std::string input, read_file("-"));
  std::vector<std::string> strings;
  if (options.json) {
    const auto json = nlohmann::json::parse(input, nullptr, false);
    if (!json.is_array()) {
      return Error(ErrorCode::kMalformed, "standard input is not a JSON array of strings");
    }
    for (const auto& element : json) {
      if (!element.is_string()) {
        return Error(ErrorCode::kMalformed, "element " + std::to_string(strings.size()) +
                                                " of the array on standard input is not a string");
      }
      strings.push_back(element.get<std::string>());
    }
  } else {
    strings.push_back(input);
  }

  nlohmann::json out = nlohmann::json::array();
  for (const std::string& text : strings) {
    KVFERRY_ASSIGN(const std::vector<TokenId> ids, tokenizer.tokenize(text, options.tokenize));
    if (options.json) {
      out.push_back(ids);
      continue;
    }
    for (const TokenId id : ids) {
      KVFERRY_ASSIGN(const std::string piece, tokenizer.piece(id));
      const nlohmann::json quoted = piece;
      std::cout << id << '\t'
                << quoted.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace) << '\n';
    }
  }
  if (options.json) std::cout << out.dump() << '\n';
  return {};
}

}  // namespace

void add_tokenize(CLI::App& app, Command& chosen) {
  const auto options = std::make_shared<Options>();
  CLI::App* command = app.add_subcommand("tokenize", "Turn text on standard input into token ids");
  command->add_option("--model", options->model, "GGUF file")->required();
  command->add_flag("--json", options->json,
                    "Input is a JSON array of strings, output a JSON array of id arrays");
  command->add_flag("--special", options->tokenize.parse_special,
                    "Read special tokens that are spelled out in the text");
  command->add_flag("--add-special", options->tokenize.add_special,
                    "Add beginning and end of text where the model wants them");
  command->callback([options, &chosen] { chosen = [options] { return run(*options); }; });
}

}  // namespace kvferry::cli
