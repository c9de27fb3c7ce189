#include "kvferry/engine/gguf.hpp"

#include <cmath>
#include <cstdio>
#include <fstream>
#include <limits>
#include <string>
#include <vector>

#include <catch2/catch.hpp>
#include <sys/stat.h>
#include <unistd.h>

#include "kvferry/model/tensor.hpp"

#include "tests/engine/gguf_builder.hpp"

using namespace kvferry;
using namespace kvferry_test;
using Catch::Contains;

namespace {

// The file must be refused with this code and a message that has each of the parts.
void refused(const GgufBuilder& builder, ErrorCode code, const std::vector<std::string>& parts) {
  const std::vector<std::uint8_t> bytes = builder.build();
  const Result<GgufFile> file = GgufFile::parse(bytes);
  REQUIRE_FALSE(file.ok());
  CHECK(name_of(file.error().code) == std::string(name_of(code)));
  for (const std::string& part : parts) CHECK_THAT(file.error().message, Contains(part));
}

GgufBuilder one_tensor(std::vector<std::uint64_t> dimensions, std::uint32_t type,
                       std::size_t bytes) {
  GgufBuilder b;
  b.tensor({"w", std::move(dimensions), type, std::string(bytes, 'x'), 0});
  return b;
}

}  // namespace

TEST_CASE("every metadata type is read back") {
  GgufBuilder b;
  b.entry("u8", GgufType::kUint8, le<std::uint8_t>(200));
  b.entry("i8", GgufType::kInt8, le<std::int8_t>(-3));
  b.entry("u16", GgufType::kUint16, le<std::uint16_t>(60000));
  b.entry("i16", GgufType::kInt16, le<std::int16_t>(-300));
  b.entry("u32", GgufType::kUint32, le<std::uint32_t>(4000000000u));
  b.entry("i32", GgufType::kInt32, le<std::int32_t>(-70000));
  b.entry("u64", GgufType::kUint64, le<std::uint64_t>(std::numeric_limits<std::uint64_t>::max()));
  b.entry("i64", GgufType::kInt64, le<std::int64_t>(std::numeric_limits<std::int64_t>::min()));
  b.f32("f32", -1.5f).entry("f64", GgufType::kFloat64, le(1e300));
  b.boolean("yes", true).boolean("no", false).text("text", "caf\xc3\xa9").text("none", "");
  b.strings("list", {"a", "", "ccc"}).strings("no list", {});
  b.array("i8s", GgufType::kInt8, 3, "\xff\x02\x80");
  b.array("i32s", GgufType::kInt32, 2, le(-1) + le(7));
  b.array("u64s", GgufType::kUint64, 1, le(std::numeric_limits<std::uint64_t>::max()));
  b.array("f32s", GgufType::kFloat32, 2, le(0.5f) + le(-2.0f));
  b.array("f64s", GgufType::kFloat64, 1, le(0.25));
  b.version = GENERATE(2u, 3u);
  const std::vector<std::uint8_t> bytes = b.build();
  const GgufFile file = GgufFile::parse(bytes).value();

  CHECK(file.version() == b.version);
  CHECK(file.metadata().size() == 21);
  CHECK(file.metadata()[0].key == "u8");
  CHECK(file.data_offset() == bytes.size());
  CHECK(file.unsigned_integer("u8").value() == 200);
  CHECK(file.unsigned_integer("u16").value() == 60000);
  CHECK(file.unsigned_integer("u32").value() == 4000000000u);
  CHECK(file.unsigned_integer("u64").value() == std::numeric_limits<std::uint64_t>::max());
  CHECK(file.number("i8").value() == -3.0);
  CHECK(file.number("i16").value() == -300.0);
  CHECK(file.number("i32").value() == -70000.0);
  CHECK(file.number("i64").value() == std::ldexp(-1.0, 63));
  CHECK(file.number("u64").value() == std::ldexp(1.0, 64));
  CHECK(file.number("f32").value() == -1.5);
  CHECK(file.number("f64").value() == 1e300);
  CHECK(file.boolean("yes").value());
  CHECK_FALSE(file.boolean("no").value());
  CHECK(file.string("text").value() == "caf\xc3\xa9");
  CHECK(file.string("none").value().empty());
  CHECK(file.strings("list").value() == std::vector<std::string_view>{"a", "", "ccc"});
  CHECK(file.strings("no list").value().empty());
  CHECK(file.integers("i8s").value() == std::vector<std::int64_t>{-1, 2, -128});
  CHECK(file.integers("i32s").value() == std::vector<std::int64_t>{-1, 7});
  CHECK(file.floats("f32s").value() == std::vector<float>{0.5f, -2.0f});
  CHECK(file.floats("f64s").value() == std::vector<float>{0.25f});

  CHECK(file.find("absent") == nullptr);
  CHECK(file.string("absent").error().code == ErrorCode::kNotFound);
  CHECK_THAT(file.unsigned_integer("i8").error().message, Contains("-3") && Contains("\"i8\""));
  CHECK_THAT(file.integers("u64s").error().message, Contains("63 bits"));
  CHECK_THAT(file.string("u8").error().message, Contains("uint8") && Contains("a string"));
  CHECK_THAT(file.strings("i8s").error().message, Contains("array of int8"));
  CHECK(file.unsigned_integer("f32").error().code == ErrorCode::kMalformed);
  CHECK(file.number("text").error().code == ErrorCode::kMalformed);
  CHECK(file.boolean("u8").error().code == ErrorCode::kMalformed);
  CHECK(file.integers("u8").error().code == ErrorCode::kMalformed);
  CHECK(file.floats("i8s").error().code == ErrorCode::kMalformed);
}

TEST_CASE("tensors lie where the file says") {
  GgufBuilder b;
  b.alignment = GENERATE(1u, 8u, 32u, 4096u);
  b.u32("general.alignment", static_cast<std::uint32_t>(b.alignment));
  b.tensor({"a", {3}, 0, le(1.0f) + le(2.0f) + le(3.0f), 0});
  b.tensor({"b", {32, 2, 1, 2}, 8, std::string(4 * 34, 'q'), 0});
  b.tensor({"c", {5}, 24, "hello", 0});
  const std::vector<std::uint8_t> bytes = b.build();
  GgufFile original = GgufFile::parse(bytes).value();
  const GgufFile file = std::move(original);
  CHECK(file.alignment() == b.alignment);
  CHECK(file.data_offset() % b.alignment == 0);
  REQUIRE(file.tensors().size() == 3);
  const GgufTensor* const t = file.find_tensor("b");
  REQUIRE(t != nullptr);
  CHECK(t->type == 8);
  CHECK(t->dimension_count == 4);
  CHECK(t->dimensions == std::array<std::uint64_t, 4>{{32, 2, 1, 2}});
  CHECK(t->data.size() == 4 * 34);
  CHECK(t->data[0] == 'q');
  CHECK(t->data[4 * 34 - 1] == 'q');
  CHECK(file.offset_of(t->data) % b.alignment == 0);
  CHECK(file.find_tensor("c")->data[4] == 'o');
  CHECK(file.find_tensor("d") == nullptr);
}

TEST_CASE("headers that are refused") {
  GgufBuilder b;
  b.text("k", "v");
  std::vector<std::uint8_t> bytes = b.build();
  SECTION("magic") {
    bytes[3] = '\n';
    const Result<GgufFile> file = GgufFile::parse(bytes);
    CHECK_THAT(file.error().message, Contains("not a GGUF file") && Contains("GGU\\n"));
  }
  SECTION("empty") {
    CHECK(GgufFile::parse(Bytes()).error().code == ErrorCode::kIncomplete);
  }
  SECTION("versions") {
    for (const std::uint32_t version : {0u, 1u, 4u, 0xffffffffu}) {
      b.version = version;
      refused(b, ErrorCode::kUnsupported, {"version " + std::to_string(version)});
    }
    b.version = 3u << 24;
    refused(b, ErrorCode::kUnsupported, {"big-endian"});
  }
  SECTION("counts") {
    bytes[8 + 7] = 0x80;
    CHECK_THAT(GgufFile::parse(bytes).error().message,
               Contains("claims 9223372036854775808 tensors"));
    bytes[8 + 7] = 0;
    bytes[16 + 7] = 0x80;
    CHECK_THAT(GgufFile::parse(bytes).error().message,
               Contains("claims 9223372036854775809 metadata entries"));
  }
  SECTION("more entries than any model has") {
    GgufBuilder many;
    for (int i = 0; i < 16385; ++i) {
      many.duplicate_entry("k" + std::to_string(i), GgufType::kUint8, "x");
    }
    refused(many, ErrorCode::kResourceExhausted, {"16385 metadata entries", "16384"});
  }
}

TEST_CASE("metadata that is refused") {
  GgufBuilder b;
  b.text("first", "value");
  SECTION("the same key twice") {
    b.u32("twice", 1).u32("other", 1).duplicate_entry("twice", GgufType::kUint8, "x");
    refused(b, ErrorCode::kMalformed, {"metadata key \"twice\" occurs twice", "byte"});
  }
  SECTION("an empty key") {
    b.u32("", 1);
    refused(b, ErrorCode::kMalformed, {"entry 1", "empty key"});
  }
  SECTION("a key beyond the limit") {
    b.u32(std::string(65535, 'k'), 1);
    CHECK(GgufFile::parse(b.build()).ok());
    b.u32(std::string(65536, 'k'), 1);
    refused(b, ErrorCode::kMalformed, {"65536 bytes", "65535"});
  }
  SECTION("an unknown type") {
    b.entry("odd", static_cast<GgufType>(13), "x");
    refused(b, ErrorCode::kMalformed, {"\"odd\"", "value type 13"});
  }
  SECTION("an unknown element type") {
    b.array("odd", static_cast<GgufType>(77), 0, "");
    refused(b, ErrorCode::kMalformed, {"\"odd\"", "type 77"});
  }
  SECTION("an array of arrays") {
    b.array("deep", GgufType::kArray, 0, "");
    refused(b, ErrorCode::kUnsupported, {"\"deep\"", "array of arrays"});
  }
  SECTION("bools other than 0 and 1") {
    b.entry("flag", GgufType::kBool, "\x02");
    refused(b, ErrorCode::kMalformed, {"\"flag\"", "bool 2"});
    b.remove_entry("flag").array("flags", GgufType::kBool, 3, std::string("\0\1\xff", 3));
    refused(b, ErrorCode::kMalformed, {"\"flags\"", "bool 255"});
  }
  SECTION("an array longer than the file") {
    b.array("long", GgufType::kUint64, std::uint64_t{1} << 61, "12345678");
    refused(b, ErrorCode::kIncomplete, {"\"long\"", "2305843009213693952 values"});
    b.array("long", GgufType::kString, 8, gguf_string("a") + gguf_string("b"));
    refused(b, ErrorCode::kIncomplete, {"\"long\""});
  }
  SECTION("a string longer than the file") {
    b.entry("long", GgufType::kString, le<std::uint64_t>(1000) + "short");
    refused(b, ErrorCode::kIncomplete, {"\"long\"", "1000 bytes"});
    b.array("long", GgufType::kString, 1, le(~std::uint64_t{0}) + "short");
    refused(b, ErrorCode::kIncomplete, {"string 0", "\"long\""});
  }
  SECTION("control characters are escaped in messages") {
    b.entry("\x1b[2J\xc2\x9b", static_cast<GgufType>(13), "x");
    refused(b, ErrorCode::kMalformed, {"\"\\x1b[2J\\xc2\\x9b\""});
  }
}

TEST_CASE("alignments that are refused") {
  GgufBuilder b = one_tensor({8}, 0, 32);
  for (const std::uint32_t alignment : {0u, 3u, 48u, 0xffffffffu}) {
    b.u32("general.alignment", alignment);
    refused(b, ErrorCode::kMalformed,
            {"general.alignment", std::to_string(alignment), "power of two"});
  }
  b.entry("general.alignment", GgufType::kUint64, le<std::uint64_t>(32));
  refused(b, ErrorCode::kMalformed, {"general.alignment", "uint64"});
  // The data section would begin beyond the file.
  b.u32("general.alignment", 1u << 31);
  refused(b, ErrorCode::kIncomplete, {"padding before the tensor data"});
}

TEST_CASE("tensors that are refused") {
  GgufBuilder b = one_tensor({8}, 0, 32);
  REQUIRE(GgufFile::parse(b.build()).ok());
  SECTION("the same name twice") {
    b.duplicate_tensor({"w", {8}, 0, std::string(32, 'x'), 0});
    refused(b, ErrorCode::kMalformed, {"tensor \"w\" occurs twice"});
  }
  SECTION("names") {
    b.tensor({"", {8}, 0, std::string(32, 'x'), 0});
    refused(b, ErrorCode::kMalformed, {"tensor 1", "empty name"});
    b.remove_tensor("").tensor({std::string(256, 'n'), {8}, 0, std::string(32, 'x'), 0});
    refused(b, ErrorCode::kMalformed, {"256 bytes", "255"});
  }
  SECTION("dimensions") {
    refused(one_tensor({}, 0, 4), ErrorCode::kMalformed, {"\"w\"", "0 dimensions"});
    refused(one_tensor({1, 1, 1, 1, 1}, 0, 4), ErrorCode::kMalformed, {"\"w\"", "5 dimensions"});
    refused(one_tensor({4, 0}, 0, 4), ErrorCode::kMalformed, {"\"w\"", "dimension of 0"});
    const std::uint64_t big = std::uint64_t{1} << 32;
    refused(one_tensor({big, big}, 0, 4), ErrorCode::kMalformed, {"\"w\"", "63 bits"});
    refused(one_tensor({big, big / 2 - 1}, 28, 4), ErrorCode::kMalformed, {"\"w\"", "64 bits"});
    refused(one_tensor({~std::uint64_t{0}}, 0, 4), ErrorCode::kMalformed, {"\"w\"", "63 bits"});
  }
  SECTION("types") {
    for (const std::uint32_t type : {4u, 5u, 31u, 38u, 42u, 0xffffffffu}) {
      refused(one_tensor({256}, type, 256), ErrorCode::kUnsupported,
              {"\"w\"", "tensor type " + std::to_string(type)});
    }
  }
  SECTION("rows that are no whole blocks") {
    refused(one_tensor({33, 32}, 2, 33 * 18), ErrorCode::kMalformed, {"\"w\"", "Q4_0", "33", "32"});
    refused(one_tensor({128, 2}, 12, 144), ErrorCode::kMalformed, {"\"w\"", "Q4_K", "256"});
  }
  SECTION("offsets") {
    b.tensor({"v", {8}, 0, std::string(32, 'x'), 16});
    refused(b, ErrorCode::kMalformed, {"\"v\"", "offset 48", "alignment 32"});
    b.tensor({"v", {8}, 0, std::string(32, 'x'), -32});
    refused(b, ErrorCode::kMalformed, {"\"w\"", "\"v\"", "overlap"});
    b.tensor({"v", {8}, 0, std::string(32, 'x'), 32});
    refused(b, ErrorCode::kIncomplete, {"\"v\"", "32 bytes from offset 64"});
    b.tensor({"v", {8}, 0, std::string(32, 'x'), -64});
    refused(b, ErrorCode::kIncomplete, {"\"v\"", "offset 18446744073709551584"});
  }
  SECTION("more bytes than the file has") {
    refused(one_tensor({9}, 0, 32), ErrorCode::kIncomplete, {"\"w\"", "needs 36 bytes"});
  }
}

TEST_CASE("a file is mapped, and what cannot be mapped is named") {
  const std::string good = KVFERRY_GOLDEN_DIR "/tiny/bad/ok_base.gguf";
  CHECK(GgufFile::open(good).value().tensors().size() == 11);
  CHECK_THAT(GgufFile::open(KVFERRY_GOLDEN_DIR "/tiny/bad/trunc_header.gguf").error().message,
             Contains("trunc_header.gguf") && Contains("14 bytes"));
  CHECK(GgufFile::open("/no/such/file.gguf").error().code == ErrorCode::kIo);
  CHECK_THAT(GgufFile::open("/no/such/file.gguf").error().message, Contains("/no/such/file.gguf"));
  CHECK_THAT(GgufFile::open(KVFERRY_GOLDEN_DIR).error().message, Contains("not a regular file"));

  char name[] = "/tmp/kvferry-gguf-XXXXXX";
  const int fd = mkstemp(name);
  REQUIRE(fd >= 0);
  close(fd);
  CHECK(GgufFile::open(name).error().code == ErrorCode::kIncomplete);
  REQUIRE(unlink(name) == 0);
  REQUIRE(mkfifo(name, 0600) == 0);
  CHECK_THAT(GgufFile::open(name).error().message, Contains("not a regular file"));
  unlink(name);
}

TEST_CASE("GGML's table of types agrees with ours for what both hold") {
  for (const TensorType t :
       {TensorType::kF32, TensorType::kF16, TensorType::kBF16, TensorType::kQ4_0, TensorType::kQ4_1,
        TensorType::kQ5_0, TensorType::kQ5_1, TensorType::kQ8_0, TensorType::kQ4_K,
        TensorType::kQ5_K, TensorType::kQ6_K}) {
    const GgmlType* const g = find_ggml_type(static_cast<std::uint32_t>(t));
    REQUIRE(g != nullptr);
    CHECK(g->name == std::string(name_of(t)));
    CHECK(g->block_values == block_values(t));
    CHECK(g->block_bytes == block_bytes(t));
  }
}
