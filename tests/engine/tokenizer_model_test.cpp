// SmolLM2's vocabulary, against llama.cpp's tokenisations.
#include "kvferry/engine/chat_template.hpp"

#include "tests/support/model.hpp"
#include "tokenizer_golden.hpp"

TEST_CASE("SmolLM2 tokenises and detokenises as recorded") {
  kvferry_test::check_golden(
      kvferry_test::load_tokenizer(kvferry_test::model_path()),
      kvferry_test::read_json(std::string(KVFERRY_GOLDEN_DIR) + "/tokenizer_public.json"));
}

TEST_CASE("SmolLM2's chat template renders and tokenises as recorded") {
  const kvferry::Tokenizer tokenizer = kvferry_test::load_tokenizer(kvferry_test::model_path());
  const auto chat = kvferry::ChatTemplate::from(tokenizer.vocabulary()).value();
  const auto golden =
      kvferry_test::read_json(std::string(KVFERRY_GOLDEN_DIR) + "/tokenizer_public.json");
  for (const auto& entry : golden["chat"]) {
    std::vector<kvferry::ChatMessage> messages;
    for (const auto& m : entry["messages"]) messages.push_back({m["role"], m["content"]});
    INFO(entry["messages"].dump());
    const auto text = entry["rendered_jinja"].get<std::string>();
    CHECK(chat.render(messages).value() == text);
    CHECK(chat.render(messages, false).value() == entry["rendered_jinja_no_gen"]);
    const auto ids = kvferry::tokenize_chat(tokenizer, chat, messages).value();
    CHECK(ids == entry["ids_parse_special"].get<std::vector<kvferry::TokenId>>());
  }
  CHECK(tokenizer.ends_generation(tokenizer.find("<|im_end|>")));
  CHECK(tokenizer.ends_generation(tokenizer.find("<|endoftext|>")));
  CHECK(!tokenizer.ends_generation(tokenizer.find("<|im_start|>")));
}

TEST_CASE("every pre-tokenizer gives llama.cpp's tokens over SmolLM2's vocabulary") {
  const kvferry::GgufFile file = kvferry::GgufFile::open(kvferry_test::model_path()).value();
  const kvferry::Vocabulary vocabulary = kvferry::vocabulary_from(file).value();
  const auto golden =
      kvferry_test::read_json(std::string(KVFERRY_GOLDEN_DIR) + "/pre_tokenizers.json");
  for (const auto& item : golden["ids"].items()) {
    kvferry::Vocabulary changed = vocabulary;
    changed.pre_tokenizer = item.key();
    const auto tokenizer = kvferry::Tokenizer::create(changed).value();
    for (std::size_t i = 0; i < golden["texts"].size(); ++i) {
      const auto text = golden["texts"][i].get<std::string>();
      INFO(item.key() << ": " << text);
      CHECK(tokenizer.tokenize(text).value() ==
            item.value()[i].get<std::vector<kvferry::TokenId>>());
    }
  }
}
