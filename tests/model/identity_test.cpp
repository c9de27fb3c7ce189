#include "kvferry/model/identity.hpp"

#include <functional>
#include <string>
#include <vector>

#include <catch2/catch.hpp>

using namespace kvferry;
using Catch::Contains;

namespace {

ModelIdentity base() {
  ModelIdentity id;
  id.architecture = "qwen2";
  id.layers = 30;
  id.heads = 9;
  id.kv_heads = 3;
  id.head_dim = 64;
  id.hidden = 576;
  id.ffn = 1536;
  id.vocab = 49152;
  id.norm_epsilon = 1e-5f;
  id.rope.inverse_frequency = {1.0f, 0.5f, 0.25f};
  id.tokenizer = 0x1234567890abcdefu;
  id.norms = 0xfedcba0987654321u;
  id.name = "SmolLM2 135M";
  id.basename = "SmolLM2";
  id.finetune = "Instruct";
  id.version = "v0.2";
  return id;
}

}  // namespace

TEST_CASE("equal identities compare equal") {
  CHECK(compare(base(), base()).ok());
  CHECK(base().fingerprint() == base().fingerprint());
}

TEST_CASE("a difference in any field is named with both values") {
  struct Change {
    const char* field;
    std::function<void(ModelIdentity&)> apply;
    const char* theirs;
  };
  const Change changes[] = {
      {"architecture", [](ModelIdentity& i) { i.architecture = "gemma3"; }, "\"gemma3\""},
      {"layers", [](ModelIdentity& i) { i.layers = 31; }, "31"},
      {"heads", [](ModelIdentity& i) { i.heads = 12; }, "12"},
      {"kv_heads", [](ModelIdentity& i) { i.kv_heads = 9; }, "9"},
      {"head_dim", [](ModelIdentity& i) { i.head_dim = 128; }, "128"},
      {"hidden", [](ModelIdentity& i) { i.hidden = 577; }, "577"},
      {"ffn", [](ModelIdentity& i) { i.ffn = 1537; }, "1537"},
      {"vocab", [](ModelIdentity& i) { i.vocab = 49153; }, "49153"},
      {"norm_epsilon", [](ModelIdentity& i) { i.norm_epsilon = 1e-6f; }, "9.99999997e-07"},
      {"rope.layout", [](ModelIdentity& i) { i.rope.layout = RopeLayout::kSplitHalves; },
       "split halves"},
      {"rope.rotated", [](ModelIdentity& i) { i.rope.inverse_frequency.pop_back(); }, "4"},
      {"rope.inverse_frequency[2]", [](ModelIdentity& i) { i.rope.inverse_frequency[2] = 0.125f; },
       "0.125"},
      {"rope.attention_scale", [](ModelIdentity& i) { i.rope.attention_scale = 1.25f; }, "1.25"},
      {"tokenizer", [](ModelIdentity& i) { i.tokenizer = 1; }, "0000000000000001"},
      {"norms", [](ModelIdentity& i) { i.norms = 2; }, "0000000000000002"},
      {"name", [](ModelIdentity& i) { i.name = "SmolLM2 360M"; }, "\"SmolLM2 360M\""},
      {"basename", [](ModelIdentity& i) { i.basename = "Smol"; }, "\"Smol\""},
      {"finetune", [](ModelIdentity& i) { i.finetune = "Math\x1b[2J"; }, "\"Math\\x1b[2J\""},
      {"version", [](ModelIdentity& i) { i.version = "v0.3"; }, "\"v0.3\""},
  };
  for (const Change& change : changes) {
    INFO(change.field);
    ModelIdentity theirs = base();
    change.apply(theirs);
    const Status status = compare(base(), theirs);
    REQUIRE_FALSE(status.ok());
    CHECK(status.error().code == ErrorCode::kMismatch);
    CHECK_THAT(status.error().message, Contains("differ in " + std::string(change.field) + ": ") &&
                                           Contains(std::string(change.theirs) + " at the peer"));
    CHECK_FALSE(compare(theirs, base()).ok());
    CHECK(theirs.fingerprint() != base().fingerprint());
  }
}

TEST_CASE("an architecture is a short name in printable ASCII, and compared as it is") {
  for (const std::string& name : {std::string("llama"), std::string("gemma3"), std::string("!"),
                                  std::string("~"), std::string(64, 'x')}) {
    INFO(name);
    CHECK(is_architecture(name));
  }
  for (const std::string& name :
       {std::string(), std::string("two words"), std::string("a\n"), std::string("a\x7f"),
        std::string("\xc3\xa9"), std::string("a\0b", 3), std::string(65, 'x')}) {
    INFO(name);
    CHECK_FALSE(is_architecture(name));
  }
  ModelIdentity theirs = base();
  theirs.architecture = "Qwen2";
  CHECK_FALSE(compare(base(), theirs).ok());
}

TEST_CASE("descriptive metadata counts only when both ends have it") {
  for (std::string ModelIdentity::*field : {&ModelIdentity::name, &ModelIdentity::basename,
                                            &ModelIdentity::finetune, &ModelIdentity::version}) {
    ModelIdentity theirs = base();
    (theirs.*field).clear();
    CHECK(compare(base(), theirs).ok());
    CHECK(compare(theirs, base()).ok());
    CHECK(theirs.fingerprint() != base().fingerprint());
  }
}

TEST_CASE("spelling and quantisation do not make another model") {
  ModelIdentity theirs = base();
  for (const char* const name :
       {"smollm2-135m", "SmolLM2_135M.Q4_K_M", "SmolLM2 135M Q8_0", "SmolLM2-135M-f16.gguf",
        "SMOLLM2 135M (BF16)", "SmolLM2 135M q6_K"}) {
    INFO(name);
    theirs.name = name;
    CHECK(compare(base(), theirs).ok());
    CHECK(theirs.fingerprint() == base().fingerprint());
  }
  for (const char* const name : {"SmolLM2 135M Chat", "SmolLM 135M", "SmolLM2 135M v2", "f16"}) {
    INFO(name);
    theirs.name = name;
    CHECK_FALSE(compare(base(), theirs).ok());
  }
  CHECK(comparable_name("\xe6\xa8\xa1\xe5\x9e\x8b A") ==
        "\xe6\xa8\xa1\xe5\x9e\x8b"
        "a");
  CHECK(comparable_name("f16") == "f16");
  CHECK(comparable_name("").empty());
}

TEST_CASE("an identity of NaN and zeros compares by its bits") {
  ModelIdentity a = base();
  a.rope.inverse_frequency[0] = float_from_bits(0x7fc00000u);
  CHECK(compare(a, a).ok());
  ModelIdentity b = base();
  a = base();
  a.rope.inverse_frequency[0] = 0.0f;
  b.rope.inverse_frequency[0] = -0.0f;
  CHECK_FALSE(compare(a, b).ok());
}
