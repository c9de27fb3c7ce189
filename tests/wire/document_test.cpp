// The worked examples of docs/wire-format.md are the bytes of the code.
#include <fstream>
#include <iterator>
#include <map>
#include <sstream>
#include <string>

#include <catch2/catch.hpp>

#include "kvferry/wire/digest.hpp"
#include "kvferry/wire/frame.hpp"
#include "kvferry/wire/serialize.hpp"

#include "example_messages.hpp"
#include "golden_files.hpp"

using namespace kvferry;
using namespace kvferry::wire;
using namespace kvferry_test;

namespace {

using ByteVector = std::vector<std::uint8_t>;

std::string document() {
  std::ifstream in(KVFERRY_GOLDEN_DIR "/../../docs/wire-format.md");
  REQUIRE(in.good());
  return std::string((std::istreambuf_iterator<char>(in)), std::istreambuf_iterator<char>());
}

// The bytes after each "<!-- example: NAME -->", up to the remarks at the end of the lines.
std::map<std::string, ByteVector> examples() {
  std::istringstream lines(document());
  std::map<std::string, ByteVector> found;
  ByteVector* current = nullptr;
  int fences = 0;
  const std::string mark = "<!-- example: ";
  for (std::string line; std::getline(lines, line);) {
    if (line.compare(0, mark.size(), mark) == 0) {
      current = &found[line.substr(mark.size(), line.find(" -->") - mark.size())];
      fences = 0;
    } else if (line == "```") {
      ++fences;
    } else if (current != nullptr && fences == 1) {
      std::istringstream bytes(line.substr(0, line.find("   ")));
      for (std::string hex; bytes >> hex;)
        current->push_back(static_cast<std::uint8_t>(std::stoul(hex, nullptr, 16)));
    }
  }
  return found;
}

std::string hex(std::uint64_t value) {
  char text[17];
  std::snprintf(text, sizeof text, "%016llx", static_cast<unsigned long long>(value));
  return text;
}

}  // namespace

TEST_CASE("The frames in the document are golden frames") {
  const auto found = examples();
  std::map<std::string, ByteVector> golden;
  for (const GoldenFile& file : golden_good_frames()) golden[file.name] = file.bytes;
  for (const char* name : {"good/ping.frame", "good/block.frame"}) {
    INFO(name);
    REQUIRE(found.count(name) == 1);
    CHECK(found.at(name) == golden.at(name));
  }
}

TEST_CASE("The digest in the document is that of the code") {
  const auto found = examples();
  const std::string text = document();
  const ByteVector coded = {0xde, 0xad, 0xbe, 0xef, 0x00};
  ByteVector payload;
  REQUIRE(serialize(example_block(coded), payload).ok());
  HandoffDigest digest;
  digest.add(1, parse_block(payload).value(), hash64(payload));

  const ByteVector& record = found.at("digest record");
  const ByteVector& summary = found.at("digest summary");
  REQUIRE(record.size() == 21);
  CHECK(ByteReader(Bytes(record).subspan(13)).u64() == hash64(payload));
  REQUIRE(summary.size() == 24);
  CHECK(ByteReader(Bytes(summary).subspan(8)).u64() == hash64(record, 0));
  CHECK(ByteReader(Bytes(summary).subspan(16)).u64() == hash64(record, 1));
  CHECK(hash64(summary) == digest.value());
  for (const std::uint64_t value :
       {hash64(payload), hash64(record, 0), hash64(record, 1), digest.value(), hash64(Bytes()),
        hash64(as_bytes(std::string("abc")))}) {
    INFO(hex(value));
    CHECK(text.find("`" + hex(value) + "`") != std::string::npos);
  }
}

TEST_CASE("The document has every message type and error code under its number") {
  const std::string text = document();
  for (int number = 0; number < 256; ++number) {
    const char* name = name_of(static_cast<MessageType>(number));
    if (name == nullptr) continue;
    INFO(name);
    CHECK(text.find("| " + std::to_string(number) + " | " + name + " |") != std::string::npos);
  }
  for (int number = 1; number <= static_cast<int>(ErrorCode::kInternal); ++number) {
    const std::string name = kvferry::name_of(static_cast<ErrorCode>(number));
    INFO(name);
    CHECK(text.find("| " + std::to_string(number) + " | " + name + " |") != std::string::npos);
  }
}
