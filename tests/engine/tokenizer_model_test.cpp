// SmolLM2's vocabulary, against llama.cpp's tokenisations.
#include "tests/support/model.hpp"
#include "tokenizer_golden.hpp"

TEST_CASE("SmolLM2 tokenises and detokenises as recorded") {
  kvferry_test::check_golden(
      kvferry_test::load_tokenizer(kvferry_test::model_path()),
      kvferry_test::read_json(std::string(KVFERRY_GOLDEN_DIR) + "/tokenizer_public.json"));
}
