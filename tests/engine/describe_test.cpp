#include "kvferry/engine/describe.hpp"

#include <cstdio>
#include <limits>
#include <string>
#include <vector>

#include <catch2/catch.hpp>

#include "tests/engine/gguf_builder.hpp"

using namespace kvferry;
using namespace kvferry_test;
using Catch::Contains;

namespace {

GgufBuilder odd_file() {
  GgufBuilder b;
  b.text("evil\x1b[31m", "line\nbreak \"quote\" \\ \xff \xc2\x9b")
      .f32("nan", std::numeric_limits<float>::quiet_NaN());
  b.entry("i8", GgufType::kInt8, le<std::int8_t>(-5)).boolean("flag", true);
  b.array("short", GgufType::kInt32, 2, le(1) + le(-2));
  b.array("long", GgufType::kUint8, 20, std::string(20, '\7'));
  b.strings("words", {"a", "b", "c", "d", "e"});
  b.f32_tensor("t\n", {4, 2});
  return b;
}

}  // namespace

TEST_CASE("a file as text") {
  const std::vector<std::uint8_t> bytes = odd_file().build();
  const std::string text = describe(GgufFile::parse(bytes).value());
  CHECK_THAT(text, Contains("GGUF version 3, " + std::to_string(bytes.size()) + " bytes"));
  CHECK_THAT(
      text, Contains("\"evil\\x1b[31m\" = \"line\\nbreak \\\"quote\\\" \\\\ \\xff \\xc2\\x9b\"\n"));
  CHECK_THAT(text, Contains("  i8 = -5\n") && Contains("  flag = true\n"));
  CHECK_THAT(text, Contains("  short = [1, -2] (2 of int32)\n"));
  CHECK_THAT(text, Contains("  long = [7, 7, 7, 7, …] (20 of uint8)\n"));
  CHECK_THAT(text, Contains("\"d\", …] (5 of string)\n"));
  CHECK_THAT(text, Contains("4 x 2") && Contains("\"t\\n\"\n"));
  for (const char c : text) CHECK((c == '\n' || static_cast<unsigned char>(c) >= 0x20));
}

TEST_CASE("a file as JSON") {
  const std::vector<std::uint8_t> bytes = odd_file().build();
  const GgufFile file = GgufFile::parse(bytes).value();
  const std::string text = describe_json(file);
  CHECK_THAT(text, Contains("\"evil\\u001b[31m\": \"line\\u000abreak \\\"quote\\\" \\\\ \\ufffd"));
  CHECK_THAT(text, Contains("\"nan\": \"nan\"") && Contains("\"i8\": -5"));
  CHECK_THAT(text, Contains("\"short\": [1, -2]"));
  CHECK_THAT(text, Contains("\"long\": {\"type\": \"uint8\", \"count\": 20, \"first\": [7, 7,"));
  CHECK_THAT(text, Contains("{\"name\": \"t\\u000a\", \"type\": \"F32\", \"dimensions\": [4, 2], "
                            "\"offset\": " +
                            std::to_string(file.data_offset()) + ", \"bytes\": 32}"));
}

TEST_CASE("a model's configuration and identity come with it") {
  const ModelFile model =
      ModelFile::open(KVFERRY_GOLDEN_DIR "/tiny/tiny-llama-yarn-f16.gguf").value();
  char fingerprint[32];
  std::snprintf(fingerprint, sizeof fingerprint, "%016llx",
                static_cast<unsigned long long>(identity_of(model).fingerprint()));
  const std::string text = describe(model);
  CHECK_THAT(text, Contains("architecture llama, layers 2, heads 2, kv_heads 1, head_dim 64"));
  CHECK_THAT(text, Contains(std::string("identity ") + fingerprint));
  CHECK_THAT(text, Contains("attention scale 1.13862944"));
  const std::string json = describe_json(model);
  CHECK_THAT(json, Contains("\"head_dim\": 64") && Contains("\"tied\": true"));
  CHECK_THAT(json, Contains(std::string("\"fingerprint\": \"") + fingerprint));
  CHECK_THAT(json, Contains("\"layout\": \"interleaved\", \"rotated\": 64"));
}
