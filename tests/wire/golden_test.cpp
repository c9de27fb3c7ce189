// The committed golden files: what this code writes and takes is what was published.
#include <cmath>
#include <fstream>
#include <iterator>
#include <set>

#include <catch2/catch.hpp>
#include <nlohmann/json.hpp>

#include "any_message.hpp"
#include "field_writers.hpp"
#include "golden_files.hpp"
#include "session_fixture.hpp"

using namespace kvferry;
using namespace kvferry::wire;
using namespace kvferry_test;

namespace {

const std::string kFolder = KVFERRY_GOLDEN_DIR "/wire/";

std::vector<std::uint8_t> committed(const std::string& name) {
  std::ifstream in(kFolder + name, std::ios::binary);
  INFO(kFolder + name);
  REQUIRE(in.good());
  return std::vector<std::uint8_t>((std::istreambuf_iterator<char>(in)),
                                   std::istreambuf_iterator<char>());
}

const nlohmann::ordered_json& manifest() {
  static const nlohmann::ordered_json json = [] {
    const auto bytes = committed("manifest.json");
    return nlohmann::ordered_json::parse(bytes.begin(), bytes.end());
  }();
  return json;
}

// A name that stands for nothing else, and a text that says something.
void check_error(const Error& error) {
  CHECK(std::string(name_of(error.code)) != "unknown");
  CHECK(error.message.size() > 10);
  CHECK(is_line(error.message));
}

}  // namespace

TEST_CASE("The code writes the committed golden files, byte for byte") {
  std::set<std::string> names;
  for (const auto& files : {golden_good_frames(), golden_bad_frames(), golden_sessions()}) {
    for (const GoldenFile& file : files) {
      INFO(file.name);
      CHECK(names.insert(file.name).second);
      CHECK(committed(file.name) == file.bytes);
    }
  }
  const std::string text = golden_manifest();
  const auto bytes = committed("manifest.json");
  CHECK(text == std::string(bytes.begin(), bytes.end()));
}

TEST_CASE("Good frames hold what the manifest says and are written the same again") {
  std::set<std::string> types;
  for (const auto& entry : manifest().at("good")) {
    INFO(entry.at("file"));
    const auto bytes = committed(entry.at("file"));
    const auto decoded = decode_frame(bytes);
    REQUIRE(decoded.ok());
    const FrameHeader& header = decoded->frame.header;
    types.insert(name_of(header.type));
    CHECK(entry.at("type") == name_of(header.type));
    CHECK(entry.at("flags") == header.flags);
    CHECK(entry.at("handoff") == header.address.handoff);
    CHECK(entry.at("epoch") == header.address.epoch);
    CHECK(entry.at("source") == header.address.source);
    CHECK(entry.at("message") ==
          std::visit([](const auto& m) { return json_of(m); }, decoded->message));
    std::vector<std::uint8_t> payload;
    REQUIRE(serialize_any(decoded->message, payload).ok());
    CHECK(payload == decoded->frame.payload);
  }
  CHECK(types.size() == 19);
}

TEST_CASE("Bad frames are refused with the error that the manifest names") {
  for (const auto& entry : manifest().at("bad")) {
    INFO(entry.at("file") << ": " << entry.at("why"));
    const auto decoded = decode_frame(committed(entry.at("file")));
    REQUIRE_FALSE(decoded.ok());
    INFO(decoded.error().message);
    CHECK(static_cast<int>(decoded.error().code) == entry.at("code").get<int>());
    CHECK(name_of(decoded.error().code) == entry.at("error").get<std::string>());
    check_error(decoded.error());
  }
}

TEST_CASE("A flipped bit anywhere in a good frame is a named error") {
  for (const auto& entry : manifest().at("good")) {
    INFO(entry.at("file"));
    auto bytes = committed(entry.at("file"));
    for (std::size_t bit = 0; bit < 8 * bytes.size(); ++bit) {
      INFO("bit " << bit % 8 << " of byte " << bit / 8);
      bytes[bit / 8] ^= static_cast<std::uint8_t>(1u << bit % 8);
      const auto decoded = decode_frame(bytes);
      REQUIRE_FALSE(decoded.ok());
      check_error(decoded.error());
      bytes[bit / 8] ^= static_cast<std::uint8_t>(1u << bit % 8);
    }
    CHECK(decode_frame(bytes).ok());
  }
}

TEST_CASE("A good frame cut off at any byte is incomplete") {
  for (const auto& entry : manifest().at("good")) {
    INFO(entry.at("file"));
    const auto bytes = committed(entry.at("file"));
    for (std::size_t size = 0; size < bytes.size(); ++size) {
      const auto decoded = decode_frame(Bytes(bytes).first(size));
      REQUIRE_FALSE(decoded.ok());
      CHECK(decoded.error().code == ErrorCode::kIncomplete);
    }
  }
}

TEST_CASE("Golden sessions load, or are refused with the error that the manifest names") {
  SmallCache original(3);
  original.fill();
  for (const auto& entry : manifest().at("sessions")) {
    INFO(entry.at("file"));
    SmallCache cache(3);
    const auto loaded = load(committed(entry.at("file")), cache);
    if (entry.contains("code")) {
      REQUIRE_FALSE(loaded.ok());
      INFO(loaded.error().message);
      CHECK(static_cast<int>(loaded.error().code) == entry.at("code").get<int>());
      check_error(loaded.error());
      CHECK(cache.length() == 0);
    } else {
      REQUIRE(loaded.ok());
      CHECK(loaded->length == 3);
      if (entry.at("file").get<std::string>() != "session/codebook.kvsession") {
        CHECK(cache.memory() == original.memory());
        continue;
      }
      for (std::size_t i = 0; i < cache.memory().size(); i += 2) {  // the only lossy one
        const auto value = [i](const SmallCache& c) {
          return to_float(Half{static_cast<std::uint16_t>(c.memory()[i] | c.memory()[i + 1] << 8)});
        };
        CHECK(std::abs(value(cache) - value(original)) < 0.5f);
      }
    }
  }
}
