// Vocabularies read from GGUF files, right and wrong.
#include "kvferry/engine/vocabulary.hpp"

#include <functional>
#include <string>
#include <vector>

#include <catch2/catch.hpp>

#include "gguf_builder.hpp"

using kvferry::ErrorCode;
using kvferry::GgufFile;
using kvferry::GgufType;
using kvferry::kNoToken;
using kvferry::Result;
using kvferry::TokenType;
using kvferry::Vocabulary;
using kvferry_test::GgufBuilder;
using kvferry_test::le;

namespace {

std::string ints(const std::vector<std::int32_t>& values) {
  std::string out;
  for (const std::int32_t v : values) out += le(v);
  return out;
}

GgufBuilder bpe_file() {
  GgufBuilder file;
  file.text("tokenizer.ggml.model", "gpt2")
      .text("tokenizer.ggml.pre", "llama-bpe")
      .strings("tokenizer.ggml.tokens", {"a", "b", "ab", "<|eot_id|>", "<s>"})
      .array("tokenizer.ggml.token_type", GgufType::kInt32, 5, ints({1, 1, 1, 4, 3}))
      .strings("tokenizer.ggml.merges", {"a b"})
      .u32("tokenizer.ggml.bos_token_id", 4)
      .text("tokenizer.chat_template", "{{ 'x' }}");
  return file;
}

GgufBuilder sentence_piece_file() {
  GgufBuilder file;
  file.text("tokenizer.ggml.model", "llama")
      .strings("tokenizer.ggml.tokens", {"<unk>", "<s>", "</s>", "a"})
      .array("tokenizer.ggml.scores", GgufType::kFloat32, 4,
             le(0.0f) + le(0.0f) + le(0.0f) + le(-1.5f));
  return file;
}

Result<Vocabulary> read(const GgufBuilder& file) {
  const std::vector<std::uint8_t> bytes = file.build();
  KVFERRY_ASSIGN(const GgufFile parsed, GgufFile::parse(bytes));
  return kvferry::vocabulary_from(parsed);
}

}  // namespace

TEST_CASE("a BPE vocabulary is read with its family's defaults") {
  const Vocabulary v = read(bpe_file()).value();
  CHECK(v.model == kvferry::TokenizerModel::kBytePairEncoding);
  CHECK(v.tokens.size() == 5);
  CHECK(v.merges == std::vector<std::string>{"a b"});
  CHECK(v.bos == 4);
  CHECK(v.eos == kNoToken);
  CHECK(v.add_bos);  // as llama-bpe has it
  CHECK(!v.add_space_prefix);
  CHECK(v.types[3] == TokenType::kControl);  // by its name
  CHECK(v.eot == 3);
  CHECK(v.chat_template == "{{ 'x' }}");
  GgufBuilder file = bpe_file();
  file.boolean("tokenizer.ggml.add_bos_token", false);
  CHECK(!read(file).value().add_bos);
}

TEST_CASE("a SentencePiece vocabulary is read with its family's defaults") {
  const Vocabulary v = read(sentence_piece_file()).value();
  CHECK(v.model == kvferry::TokenizerModel::kSentencePiece);
  CHECK(v.scores[3] == -1.5f);
  CHECK(v.unknown == 0);
  CHECK(v.bos == 1);
  CHECK(v.eos == 2);
  CHECK(v.add_bos);
  CHECK(!v.add_eos);
  CHECK(v.add_space_prefix);
  GgufBuilder file = sentence_piece_file();
  file.boolean("tokenizer.ggml.add_space_prefix", false);
  CHECK(!read(file).value().add_space_prefix);
}

TEST_CASE("what is wrong with a vocabulary is said with its key") {
  const auto refused = [](GgufBuilder file, const std::function<void(GgufBuilder&)>& change,
                          ErrorCode code, const std::string& says) {
    change(file);
    const auto result = read(file);
    INFO(says);
    REQUIRE(!result.ok());
    INFO(result.error().message);
    CHECK(result.error().code == code);
    CHECK(result.error().message.find(says) != std::string::npos);
  };
  using Code = ErrorCode;
  const GgufBuilder bpe = bpe_file();
  const GgufBuilder piece = sentence_piece_file();
  const std::string prefix = "tokenizer.ggml.";
  for (const char* name : {"model", "tokens", "merges"}) {
    refused(
        bpe, [&](GgufBuilder& f) { f.remove_entry(prefix + name); }, Code::kNotFound, name);
    refused(
        bpe, [&](GgufBuilder& f) { f.u32(prefix + name, 1); }, Code::kMalformed, name);
  }
  refused(
      piece, [](GgufBuilder& f) { f.remove_entry("tokenizer.ggml.scores"); }, Code::kNotFound,
      "tokenizer.ggml.scores");
  refused(
      bpe, [](GgufBuilder& f) { f.text("tokenizer.ggml.model", "bert"); }, Code::kUnsupported,
      "\"bert\"");
  refused(
      bpe, [](GgufBuilder& f) { f.u32("tokenizer.ggml.bos_token_id", 5); }, Code::kMalformed,
      "tokenizer.ggml.bos_token_id");
  refused(
      bpe, [](GgufBuilder& f) { f.remove_entry("tokenizer.ggml.bos_token_id"); }, Code::kMalformed,
      "add_bos_token");
  refused(
      bpe,
      [](GgufBuilder& f) {
        f.array("tokenizer.ggml.token_type", GgufType::kInt32, 2, ints({1, 1}));
      },
      Code::kMalformed, "2 entries for 5 tokens");
  refused(
      bpe,
      [](GgufBuilder& f) {
        f.array("tokenizer.ggml.token_type", GgufType::kInt32, 5, ints({1, 1, 7, 1, 1}));
      },
      Code::kMalformed, "entry 2 is 7");
  refused(
      piece,
      [](GgufBuilder& f) { f.array("tokenizer.ggml.scores", GgufType::kFloat32, 1, le(1.0f)); },
      Code::kMalformed, "1 entries for 4 tokens");
  refused(
      bpe, [](GgufBuilder& f) { f.text("tokenizer.ggml.add_bos_token", "yes"); }, Code::kMalformed,
      "add_bos_token");
  refused(
      bpe,
      [](GgufBuilder& f) {
        f.strings("tokenizer.ggml.tokens",
                  {"a", "b", "ab", "c", std::string(kvferry::kMaxTokenBytes + 1, 'x')});
      },
      Code::kMalformed, "entry 4");
  refused(
      bpe,
      [](GgufBuilder& f) {
        f.text("tokenizer.chat_template", std::string(kvferry::kMaxChatTemplateBytes + 1, 'x'));
      },
      Code::kResourceExhausted, "tokenizer.chat_template");
}
