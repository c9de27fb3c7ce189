// The handoff digest against a second implementation, XXH64 included.
#include "kvferry/wire/digest.hpp"

#include <algorithm>
#include <random>

#include <catch2/catch.hpp>

using namespace kvferry;
using namespace kvferry::wire;

namespace {

// XXH64 for inputs below 32 bytes, from its published description.
std::uint64_t reference_hash(const std::vector<std::uint8_t>& data, std::uint64_t seed) {
  constexpr std::uint64_t kP1 = 0x9E3779B185EBCA87u, kP2 = 0xC2B2AE3D27D4EB4Fu,
                          kP3 = 0x165667B19E3779F9u, kP4 = 0x85EBCA77C2B2AE63u,
                          kP5 = 0x27D4EB2F165667C5u;
  const auto rotate = [](std::uint64_t v, int by) { return v << by | v >> (64 - by); };
  const auto little = [&](std::size_t at, std::size_t width) {
    std::uint64_t v = 0;
    for (std::size_t i = width; i-- > 0;) v = v << 8 | data[at + i];
    return v;
  };
  std::uint64_t hash = seed + kP5 + data.size();
  std::size_t at = 0;
  for (; at + 8 <= data.size(); at += 8) {
    hash ^= rotate(little(at, 8) * kP2, 31) * kP1;
    hash = rotate(hash, 27) * kP1 + kP4;
  }
  for (; at + 4 <= data.size(); at += 4) {
    hash ^= little(at, 4) * kP1;
    hash = rotate(hash, 23) * kP2 + kP3;
  }
  for (; at < data.size(); ++at) {
    hash ^= data[at] * kP5;
    hash = rotate(hash, 11) * kP1;
  }
  hash ^= hash >> 33;
  hash *= kP2;
  hash ^= hash >> 29;
  hash *= kP3;
  return hash ^ hash >> 32;
}

struct Record {
  std::uint16_t source;
  Block block;
  std::uint64_t payload_hash;
};

std::uint64_t reference_digest(const std::vector<Record>& records) {
  const auto put = [](std::vector<std::uint8_t>& out, std::uint64_t v, int bytes) {
    for (int i = 0; i < bytes; ++i) out.push_back(static_cast<std::uint8_t>(v >> (8 * i)));
  };
  std::uint64_t sums[2] = {0, 0};
  for (const Record& r : records) {
    std::vector<std::uint8_t> bytes;
    put(bytes, r.source, 2);
    put(bytes, r.block.layer, 4);
    put(bytes, r.block.plane == Plane::kKey ? 0 : 1, 1);
    put(bytes, r.block.begin, 4);
    put(bytes, r.block.tokens, 2);
    put(bytes, r.payload_hash, 8);
    sums[0] += reference_hash(bytes, 0);
    sums[1] += reference_hash(bytes, 1);
  }
  std::vector<std::uint8_t> bytes;
  put(bytes, records.size(), 8);
  put(bytes, sums[0], 8);
  put(bytes, sums[1], 8);
  return reference_hash(bytes, 0);
}

std::vector<Record> some_records() {
  std::mt19937_64 random(20250101);
  std::vector<Record> records;
  for (std::uint32_t i = 0; i < 200; ++i) {
    Record r;
    r.source = static_cast<std::uint16_t>(1 + i % 3);
    r.block.layer = i / 20;
    r.block.plane = i % 2 == 0 ? Plane::kKey : Plane::kValue;
    r.block.begin = i * 7;
    r.block.tokens = static_cast<std::uint16_t>(1 + i % 256);
    r.payload_hash = random();
    records.push_back(r);
  }
  return records;
}

HandoffDigest digest_of(const std::vector<Record>& records) {
  HandoffDigest digest;
  for (const Record& r : records) digest.add(r.source, r.block, r.payload_hash);
  return digest;
}

}  // namespace

TEST_CASE("The digest is the documented one and does not depend on the order") {
  std::vector<Record> records = some_records();
  const std::uint64_t expected = reference_digest(records);
  CHECK(digest_of(records).value() == expected);
  CHECK(digest_of(records).blocks() == records.size());
  std::shuffle(records.begin(), records.end(), std::mt19937_64(7));
  CHECK(digest_of(records).value() == expected);
  CHECK(HandoffDigest().value() == reference_digest({}));
}

TEST_CASE("The digests of the sources add up to that of the handoff") {
  const std::vector<Record> records = some_records();
  HandoffDigest all;
  for (std::uint16_t source = 3; source >= 1; --source) {
    std::vector<Record> own;
    for (const Record& r : records) {
      if (r.source == source) own.push_back(r);
    }
    all.add(digest_of(own));
  }
  CHECK(all.value() == digest_of(records).value());
}

TEST_CASE("Every field of a record, a lost block and a repeated one change the digest") {
  const std::vector<Record> records = some_records();
  const std::uint64_t value = digest_of(records).value();
  const auto changed = [&](auto&& change) {
    std::vector<Record> other = records;
    change(other);
    return digest_of(other).value() != value;
  };
  CHECK(changed([](auto& r) { r[5].source ^= 1; }));
  CHECK(changed([](auto& r) { r[5].block.layer ^= 1; }));
  CHECK(changed([](auto& r) { r[4].block.plane = Plane::kValue; }));
  CHECK(changed([](auto& r) { r[5].block.begin ^= 1; }));
  CHECK(changed([](auto& r) { r[5].block.tokens += 1; }));
  CHECK(changed([](auto& r) { r[5].payload_hash ^= 1; }));
  CHECK(changed([](auto& r) { std::swap(r[5].payload_hash, r[6].payload_hash); }));
  CHECK(changed([](auto& r) { r.pop_back(); }));
  CHECK(changed([](auto& r) { r.push_back(r[0]); }));
  CHECK(changed([](auto& r) { r.insert(r.end(), 2, r[0]); }));
}
