// The three vocabularies of the small models, against llama.cpp's tokenisations.
#include "tokenizer_golden.hpp"

using kvferry_test::check_golden;
using kvferry_test::load_tokenizer;
using kvferry_test::read_json;

TEST_CASE("small vocabularies tokenise and detokenise as recorded") {
  const std::string name = GENERATE(as<std::string>(), "tiny-llama-spm-f16",
                                    "tiny-llama3-ropefreqs-bf16", "tiny-qwen2-q8_0");
  const std::string stem = std::string(KVFERRY_GOLDEN_DIR) + "/tiny/" + name;
  check_golden(load_tokenizer(stem + ".gguf"), read_json(stem + ".tokenizer.json"));
}
