// Blocks that a careless or hostile peer could send.
#include <limits>
#include <string>

#include <catch2/catch.hpp>

#include "kvferry/codec/block_format.hpp"

#include "codec_rows.hpp"

using namespace kvferry;

namespace {

const KvGeometry kGeometry = codec_geometry(ElementType::kF16, 64);
const KvRange kRange{2, Plane::kKey, 70, 79};

struct Case {
  Profile profile;
  std::vector<std::uint8_t> rows;
};

// One block of each method; lossless with a plane that is stored and one that is not.
std::vector<Case> cases() {
  auto with_nan = cache_like_rows(kGeometry, 9, 1);
  with_nan[101] = 0x7f;
  return {{Profile::kRaw, cache_like_rows(kGeometry, 9, 1)},
          {Profile::kLossless, cache_like_rows(kGeometry, 9, 1)},
          {Profile::kLossless, std::vector<std::uint8_t>(9 * kGeometry.row_bytes(), 0)},
          {Profile::kQ8, cache_like_rows(kGeometry, 9, 1)},
          {Profile::kQ8, with_nan}};
}

std::vector<std::uint8_t> block_of(const Case& c) {
  BlockEncoder encoder(kGeometry);
  return encode(encoder, kGeometry, {c.profile, kRange}, c.rows).value();
}

bool is_named(const Error& e) {
  return (e.code == ErrorCode::kMalformed || e.code == ErrorCode::kUnsupported ||
          e.code == ErrorCode::kMismatch) &&
         e.message.size() > 20;
}

}  // namespace

TEST_CASE("a block cut off anywhere, or with bytes after it, is refused") {
  BlockDecoder decoder(kGeometry);
  for (const Case& c : cases()) {
    const auto block = block_of(c);
    for (std::size_t size = 0; size < block.size(); ++size) {
      CAPTURE(name_of(c.profile), size);
      // Copied, so that reading past the end is seen by a sanitizer.
      const std::vector<std::uint8_t> cut(block.begin(),
                                          block.begin() + static_cast<std::ptrdiff_t>(size));
      const auto got = decode(decoder, kGeometry, {kRange, 0}, cut);
      REQUIRE(!got.ok());
      CHECK(got.error().code == ErrorCode::kMalformed);
      CHECK(got.error().message.find("byte ") != std::string::npos);
    }
    auto longer = block;
    longer.push_back(0);
    CHECK(decode(decoder, kGeometry, {kRange, 0}, longer).error().code == ErrorCode::kMalformed);
    CHECK(decode(decoder, kGeometry, {kRange, 0}, block).ok());  // the decoder is not spoilt
  }
}

TEST_CASE("every value of every header byte is refused by name or harmless") {
  BlockDecoder decoder(kGeometry);
  for (const Case& c : cases()) {
    const auto block = block_of(c);
    for (std::size_t at = 0; at < kBlockHeaderBytes; ++at) {
      for (std::uint32_t value = 0; value < 256; ++value) {
        auto bad = block;
        if (bad[at] == value) continue;
        bad[at] = static_cast<std::uint8_t>(value);
        CAPTURE(name_of(c.profile), at, value);
        const auto got = decode(decoder, kGeometry, {kRange, 0}, bad);
        // Optional features are to be ignored. The profile and type say how the same bytes are
        // meant: other values are other valid blocks where their sizes agree.
        const bool may_pass = at == 16 || at == 17 || at == 1 || at == 3;
        if (may_pass && got.ok()) continue;
        REQUIRE(!got.ok());
        CHECK(is_named(got.error()));
      }
    }
  }
}

TEST_CASE("flipped bits in the content give an error or rows, never more") {
  BlockDecoder decoder(kGeometry);
  for (const Case& c : cases()) {
    const auto block = block_of(c);
    for (std::size_t at = kBlockHeaderBytes; at < block.size(); ++at) {
      for (const int flip : {0x01, 0x80, 0xff}) {
        auto bad = block;
        bad[at] = static_cast<std::uint8_t>(bad[at] ^ flip);
        const auto got = decode(decoder, kGeometry, {kRange, 0}, bad);
        if (!got.ok() && !is_named(got.error())) FAIL(at << ": " << got.error().message);
      }
    }
  }
}

TEST_CASE("features: required ones are refused by name, optional ones are skipped") {
  BlockDecoder decoder(kGeometry);
  const Case c{Profile::kLossless, cache_like_rows(kGeometry, 9, 1)};
  auto block = block_of(c);
  const auto refusal = [&](std::uint8_t low, std::uint8_t high, ErrorCode code) {
    auto bad = block;
    bad[14] = low;
    bad[15] = high;
    const auto got = decode(decoder, kGeometry, {kRange, 0}, bad);
    REQUIRE(!got.ok());
    CHECK(got.error().code == code);
    return got.error().message;
  };
  CHECK(refusal(0x04, 0, ErrorCode::kUnsupported).find("bit 2") != std::string::npos);
  CHECK(refusal(0x11, 0x80, ErrorCode::kUnsupported).find("bit 4, bit 15") != std::string::npos);
  // Known ones, which a lossless block cannot have.
  CHECK(refusal(0x01, 0, ErrorCode::kMalformed).find("method 1") != std::string::npos);
  CHECK(refusal(0x02, 0, ErrorCode::kMalformed).find("method 1") != std::string::npos);
  CHECK(refusal(0x08, 0, ErrorCode::kMalformed).find("method 1") != std::string::npos);

  block[16] = 0x10;
  block[18] = 5;
  block.insert(block.begin() + kBlockHeaderBytes, 5, 0xcc);
  CHECK(decode(decoder, kGeometry, {kRange, 0}, block).value() == c.rows);
  block[16] = 0;
  CHECK(decode(decoder, kGeometry, {kRange, 0}, block).error().code == ErrorCode::kMalformed);
  block[16] = 0x10;
  block[18] = block[19] = 0xff;
  CHECK(decode(decoder, kGeometry, {kRange, 0}, block).error().code == ErrorCode::kMalformed);
}

TEST_CASE("a block of other coordinates is not taken") {
  BlockDecoder decoder(kGeometry);
  for (const Case& c : cases()) {
    const auto block = block_of(c);
    for (const KvRange other : {KvRange{1, Plane::kKey, 70, 79}, KvRange{2, Plane::kValue, 70, 79},
                                KvRange{2, Plane::kKey, 70, 78}, KvRange{2, Plane::kKey, 71, 80}}) {
      CHECK(decode(decoder, kGeometry, {other, 0}, block).error().code == ErrorCode::kMismatch);
    }
  }
  const auto block = block_of(cases()[3]);
  CHECK(decode(decoder, kGeometry, {{2, Plane::kKey, 80, 89}, 11}, block).error().code ==
        ErrorCode::kMismatch);
  CHECK(decode(decoder, kGeometry, {kRange, std::numeric_limits<std::int64_t>::min()}, block)
            .error()
            .code == ErrorCode::kMismatch);
  CHECK(decode(decoder, kGeometry, {{2, Plane::kKey, 80, 89}, 10}, block).ok());
}

TEST_CASE("planes whose lengths or frames lie are refused before they are expanded") {
  BlockDecoder decoder(kGeometry);
  const auto block =
      block_of({Profile::kLossless, std::vector<std::uint8_t>(9 * kGeometry.row_bytes(), 0)});
  const auto refused = [&](std::vector<std::uint8_t> bad) {
    const auto got = decode(decoder, kGeometry, {kRange, 0}, bad);
    REQUIRE(!got.ok());
    CHECK(got.error().code == ErrorCode::kMalformed);
    return got.error().message;
  };
  auto bad = block;
  for (std::size_t i = 20; i < 24; ++i) bad[i] = 0xff;
  CHECK(refused(bad).find("4294967295") != std::string::npos);
  bad = block;
  bad[20] = 0;
  CHECK(refused(bad).find("byte plane of 0 bytes") != std::string::npos);
  bad = block;
  ++bad[20];  // the first plane takes a byte of the second
  CHECK(refused(bad).find("after its zstd frame") != std::string::npos);
  bad = block;
  // The frame header's content size: a plane that claims 256 bytes more than the rows have.
  ++bad[20 + 8 + 6];
  CHECK(refused(bad).find("zstd frame of 1728 bytes") != std::string::npos);
}

TEST_CASE("arguments that do not fit are refused by name") {
  BlockEncoder encoder(kGeometry);
  BlockDecoder decoder(kGeometry);
  const auto rows = cache_like_rows(kGeometry, 9, 1);
  std::vector<std::uint8_t> out(maximum_encoded_size(kGeometry, 257));
  const auto refused = [&](const BlockSpec& spec, Bytes in, std::size_t room) {
    const auto got = encoder.encode(spec, in, MutableBytes(out.data(), room));
    REQUIRE(!got.ok());
    return got.error().code;
  };
  const std::size_t room = maximum_encoded_size(kGeometry, 9);
  CHECK(refused({Profile::kLossless, kRange}, rows, room - 1) == ErrorCode::kInvalidArgument);
  CHECK(refused({static_cast<Profile>(8), kRange}, rows, room) == ErrorCode::kInvalidArgument);
  CHECK(refused({Profile::kRaw, {2, Plane::kKey, 0, 8}}, rows, room) ==
        ErrorCode::kInvalidArgument);
  CHECK(refused({Profile::kRaw, {4, Plane::kKey, 0, 9}}, rows, room) ==
        ErrorCode::kInvalidArgument);
  const auto many = cache_like_rows(kGeometry, 257, 1);
  CHECK(refused({Profile::kRaw, {0, Plane::kKey, 0, 257}}, many, out.size()) ==
        ErrorCode::kInvalidArgument);
  const auto block = block_of(cases()[0]);
  std::vector<std::uint8_t> small(9 * kGeometry.row_bytes() - 1);
  CHECK(decoder.decode({kRange, 0}, block, small).error().code == ErrorCode::kInvalidArgument);
  KvGeometry unusable = kGeometry;
  unusable.head_dim = 0;
  BlockDecoder broken(unusable);
  CHECK(broken.decode({kRange, 0}, block, small).error().code == ErrorCode::kInvalidArgument);
}

TEST_CASE("profiles by name") {
  CHECK(profile_from_name("raw").value() == Profile::kRaw);
  CHECK(profile_from_name("lossless").value() == Profile::kLossless);
  CHECK(profile_from_name("high").value() == Profile::kHigh);
  CHECK(profile_from_name("q4h").value() == Profile::kQ4H);
  CHECK(profile_from_name("HIGH").error().code == ErrorCode::kInvalidArgument);
}
