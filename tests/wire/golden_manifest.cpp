#include "any_message.hpp"
#include "field_writers.hpp"
#include "golden_files.hpp"

namespace kvferry_test {

namespace {

using Json = nlohmann::ordered_json;

Json described(const GoldenFile& file) {
  Json entry;
  entry["file"] = file.name;
  if (file.error.has_value()) {
    entry["error"] = kvferry::name_of(*file.error);
    entry["code"] = static_cast<int>(*file.error);
    entry["why"] = file.why;
  }
  return entry;
}

Json described_frame(const GoldenFile& file) {
  Json entry = described(file);
  const DecodedFrame decoded = decode_frame(file.bytes).value();
  const kvferry::wire::FrameHeader& header = decoded.frame.header;
  entry["type"] = kvferry::wire::name_of(header.type);
  entry["flags"] = header.flags;
  entry["handoff"] = header.address.handoff;
  entry["epoch"] = header.address.epoch;
  entry["source"] = header.address.source;
  entry["message"] = std::visit([](const auto& m) { return json_of(m); }, decoded.message);
  return entry;
}

}  // namespace

std::string golden_manifest() {
  Json manifest;
  for (const GoldenFile& file : golden_good_frames())
    manifest["good"].push_back(described_frame(file));
  for (const GoldenFile& file : golden_bad_frames()) manifest["bad"].push_back(described(file));
  for (const GoldenFile& file : golden_sessions()) manifest["sessions"].push_back(described(file));
  return manifest.dump(1) + "\n";
}

}  // namespace kvferry_test
