// The golden tokenisations, as tests read them.
#pragma once

#include <fstream>
#include <string>
#include <vector>

#include <catch2/catch.hpp>
#include <nlohmann/json.hpp>

#include "kvferry/engine/gguf.hpp"
#include "kvferry/engine/tokenizer.hpp"

namespace kvferry_test {

inline nlohmann::json read_json(const std::string& path) {
  std::ifstream in(path);
  INFO(path);
  REQUIRE(in.good());
  return nlohmann::json::parse(in);
}

inline kvferry::Tokenizer load_tokenizer(const std::string& path) {
  const kvferry::GgufFile file = kvferry::GgufFile::open(path).value();
  return kvferry::Tokenizer::create(kvferry::vocabulary_from(file).value()).value();
}

inline std::string from_hex(const std::string& hex) {
  std::string bytes;
  for (std::size_t i = 0; i + 1 < hex.size(); i += 2) {
    bytes.push_back(static_cast<char>(std::stoi(hex.substr(i, 2), nullptr, 16)));
  }
  return bytes;
}

// {"text": …} or {"bytes_hex": …}
inline std::string text_of(const nlohmann::json& value) {
  return value.contains("text") ? value["text"].get<std::string>()
                                : from_hex(value["bytes_hex"].get<std::string>());
}

// Checks every string of a golden file: ids both ways, and the texts of the ids.
inline void check_golden(const kvferry::Tokenizer& tokenizer, const nlohmann::json& golden) {
  using Ids = std::vector<kvferry::TokenId>;
  std::size_t checked = 0;
  for (const char* group : {"plain", "special", "invalid_utf8"}) {
    const bool parse_special = std::string(group) == "special";
    for (const nlohmann::json& entry : golden[group]) {
      const std::string text = text_of(entry);
      INFO(group << ": " << entry.dump().substr(0, 300));
      const auto ids = entry["ids"].get<Ids>();
      const auto special_ids = entry["ids_add_special"].get<Ids>();
      CHECK(tokenizer.tokenize(text, {false, parse_special}).value() == ids);
      CHECK(tokenizer.tokenize(text, {true, parse_special}).value() == special_ids);

      const auto check_text = [&](const char* key, const Ids& tokens,
                                  kvferry::DetokenizeOptions options) {
        if (!entry.contains(key)) return;
        INFO(key);
        CHECK(tokenizer.detokenize(tokens, options).value() == text_of(entry[key]));
      };
      check_text("detok", ids, {false, true});
      check_text("detok_add_special", special_ids, {false, true});
      check_text("detok_remove_special", special_ids, {true, true});
      check_text("detok_hide_special", ids, {false, false});
      if (entry.contains("pieces_hex")) {
        for (std::size_t i = 0; i < ids.size(); ++i) {
          CHECK(tokenizer.piece(ids[i]).value() ==
                from_hex(entry["pieces_hex"][i].get<std::string>()));
        }
      }
      ++checked;
    }
  }
  CHECK(checked > 30);
}

}  // namespace kvferry_test
