// The identity of model files. Comparison and fingerprints are tested in model/identity_test.
#include <string>
#include <vector>

#include <catch2/catch.hpp>

#include "kvferry/core/half.hpp"
#include "kvferry/engine/model_file.hpp"

#include "tests/engine/gguf_builder.hpp"

using namespace kvferry;
using namespace kvferry_test;
using Catch::Contains;

namespace {

ModelIdentity identity(const GgufBuilder& builder) {
  const std::vector<std::uint8_t> bytes = builder.build();
  return identity_of(ModelFile::from(GgufFile::parse(bytes).value()).value());
}

ModelIdentity identity_of_file(const std::string& name) {
  return identity_of(ModelFile::open(KVFERRY_GOLDEN_DIR "/tiny/" + name + ".gguf").value());
}

void differs(const GgufBuilder& a, const GgufBuilder& b, const std::string& field) {
  const Status status = compare(identity(a), identity(b));
  REQUIRE_FALSE(status.ok());
  CHECK(status.error().code == ErrorCode::kMismatch);
  CHECK_THAT(status.error().message, Contains("differ in " + field + ":"));
}

}  // namespace

TEST_CASE("the architecture is named, and fingerprints are those of docs/wire-format.md") {
  // Made from the files by a program that knows only section 4.3.
  const ModelIdentity qwen3 = identity_of_file("tiny-qwen3-f16");
  CHECK(qwen3.architecture == "qwen3");
  CHECK(qwen3.tokenizer == 0x4cf5aa417055321fu);
  CHECK(qwen3.norms == 0x998cf6eda8cbda28u);
  const ModelIdentity llama = identity_of_file("tiny-llama-spm-f16");
  CHECK(llama.architecture == "llama");
  CHECK(llama.tokenizer == 0xd0fbb129a8e3adaau);
  CHECK(llama.norms == 0xc6fc40a8ed9de00fu);
}

TEST_CASE("quantisations of one model are one model") {
  const ModelIdentity first = identity_of_file("tiny-llama-256-q8_0");
  for (const char* const name : {"q4_0", "q4_k", "q4_k_m", "q5_0", "q5_1", "q5_k", "q6_k"}) {
    const ModelIdentity other = identity_of_file("tiny-llama-256-" + std::string(name));
    CHECK(compare(first, other).ok());
    CHECK(first.fingerprint() == other.fingerprint());
  }
}

TEST_CASE("different models are told apart") {
  const char* const names[] = {"bad/ok_base",           "tiny-llama-256-q4_0",
                               "tiny-llama-linear-f16", "tiny-llama-spm-f16",
                               "tiny-llama-yarn-f16",   "tiny-llama3-ropefreqs-bf16",
                               "tiny-qwen2-q8_0",       "tiny-qwen3-f16"};
  for (const char* const a : names) {
    for (const char* const b : names) {
      CHECK(compare(identity_of_file(a), identity_of_file(b)).ok() == (a == b));
    }
  }
}

TEST_CASE("what a file holds reaches its identity") {
  const GgufBuilder base = model_builder("llama");
  GgufBuilder changed = base;
  SECTION("RoPE") {
    differs(base, changed.f32("llama.rope.freq_base", 9999.0f), "rope.inverse_frequency[1]");
  }
  SECTION("each norm weight") {
    for (const char* const name :
         {"output_norm.weight", "blk.0.attn_norm.weight", "blk.0.ffn_norm.weight"}) {
      for (const int changed_value : {0, 15, 31}) {
        GgufBuilder other = base;
        std::string data;
        for (int i = 0; i < 32; ++i) {
          data += le(i == changed_value ? 9.0f : 0.25f * static_cast<float>(i % 16 + 1));
        }
        differs(base, other.tensor({name, {32}, 0, data, 0}), "norms");
      }
    }
    const GgufBuilder qwen3 = model_builder("qwen3");
    GgufBuilder other = qwen3;
    other.tensor({"blk.0.attn_k_norm.weight", {8}, 0, std::string(32, '\0'), 0});
    differs(qwen3, other, "norms");
  }
  SECTION("the vocabulary and its merges") {
    changed.strings("tokenizer.ggml.tokens", std::vector<std::string>(10, "t"));
    differs(base, changed, "tokenizer");
    GgufBuilder merges = changed;
    differs(changed, merges.strings("tokenizer.ggml.merges", {"t t"}), "tokenizer");
    GgufBuilder split = changed;
    differs(changed, split.text("tokenizer.ggml.pre", "llama-bpe"), "tokenizer");
    GgufBuilder special = changed;
    special.u32("tokenizer.ggml.eos_token_id", 3).text("tokenizer.chat_template", "x");
    CHECK(compare(identity(changed), identity(special)).ok());
  }
  SECTION("names") {
    differs(base, changed.text("general.name", "Other Model"), "name");
    CHECK(compare(identity(base), identity(changed.remove_entry("general.name"))).ok());
    GgufBuilder a = base;
    GgufBuilder b = base;
    differs(a.text("general.finetune", "Instruct"), b.text("general.finetune", "Math"), "finetune");
    CHECK(identity(a).finetune == "Instruct");
    CHECK(compare(identity(base), identity(a)).ok());
    differs(a.text("general.version", "v0.1"),
            b.remove_entry("general.finetune").text("general.version", "v0.2"), "version");
  }
}

TEST_CASE("norms that are stored in F16 count by value") {
  const GgufBuilder base = model_builder("llama");
  GgufBuilder half = base;
  std::string data;
  for (int i = 0; i < 32; ++i) data += le(to_half(0.25f * static_cast<float>(i % 16 + 1)).bits);
  half.tensor({"output_norm.weight", {32}, 1, data, 0});
  CHECK(compare(identity(base), identity(half)).ok());
}

TEST_CASE("long names are cut between characters") {
  std::string name = "x";
  for (int i = 0; i < 200; ++i) name += "\xe2\x82\xac";
  const ModelIdentity id = identity(model_builder("llama").text("general.name", name));
  CHECK(id.name == name.substr(0, 256));
  const ModelIdentity shifted = identity(model_builder("llama").text("general.name", "y" + name));
  CHECK(shifted.name == "y" + name.substr(0, 253));
}
