// Quantised blocks that a careless or hostile peer could send: an error or finite rows.
#include <cmath>
#include <string>

#include <catch2/catch.hpp>

#include "kvferry/core/bytes.hpp"

#include "quantised_rows.hpp"

using namespace kvferry;

namespace {

const KvGeometry kGeometry = codec_geometry(ElementType::kF16, 64);
const std::shared_ptr<const Codebook> kCodebook = test_codebook(kGeometry, 3);

struct Case {
  std::shared_ptr<const Codebook> codebook;
  KvRange range;
  std::vector<std::uint8_t> block;
};

// One lane and four, with and without codebook, classes, position 0, means and raw bits.
std::vector<Case> cases() {
  std::vector<Case> made;
  const auto add = [&made](const std::shared_ptr<const Codebook>& codebook, Profile profile,
                           const KvRange& range, bool classes) {
    BlockEncoder encoder(kGeometry, codebook);
    const std::uint32_t tokens = range.tokens();
    const auto c = random_classes(classes ? tokens : 0, 1);
    made.push_back(
        {codebook, range,
         encode(encoder, kGeometry, {profile, range, c}, cache_like_rows(kGeometry, tokens, 2))
             .value()});
  };
  add(nullptr, Profile::kLow, {2, Plane::kKey, 0, 9}, false);
  add(kCodebook, Profile::kHigh, {1, Plane::kValue, 70, 76}, true);
  add(kCodebook, Profile::kLowest, {1, Plane::kKey, 0, 1}, false);
  add(nullptr, Profile::kHigh, {3, Plane::kKey, 0, 45}, true);
  return made;
}

// What any bytes may lead to.
void check(BlockDecoder& decoder, const Case& c, const std::vector<std::uint8_t>& bytes) {
  // Copied to its size, so that a sanitizer sees a byte read outside of it.
  const std::vector<std::uint8_t> block(bytes);
  const auto got = decode(decoder, kGeometry, {c.range, 0}, block);
  if (got.ok()) {
    for (const float v : floats_of(kGeometry.type, *got)) {
      if (!std::isfinite(v)) FAIL("a value that is not finite");
    }
    return;
  }
  const ErrorCode code = got.error().code;
  if (code != ErrorCode::kMalformed && code != ErrorCode::kUnsupported &&
      code != ErrorCode::kMismatch) {
    FAIL(got.error().message);
  }
  if (got.error().message.size() < 20) FAIL(got.error().message);
}

// Of a block without codebook and classes: step, flags, bias and so on lie from byte 20 on.
std::string refusal(const Case& c, std::size_t at, std::initializer_list<int> bytes) {
  auto bad = c.block;
  for (const int b : bytes) bad[at++] = static_cast<std::uint8_t>(b);
  BlockDecoder decoder(kGeometry, c.codebook);
  const auto got = decode(decoder, kGeometry, {c.range, 0}, bad);
  REQUIRE(!got.ok());
  CHECK(got.error().code == ErrorCode::kMalformed);
  return got.error().message;
}

bool contains(const std::string& text, const char* part) {
  INFO(text);
  const bool found = text.find(part) != std::string::npos;
  CHECK(found);
  return found;
}

}  // namespace

TEST_CASE("a quantised block with any byte changed is refused or decodes to finite rows") {
  for (const Case& c : cases()) {
    BlockDecoder decoder(kGeometry, c.codebook);
    for (std::size_t at = 0; at < c.block.size(); ++at) {
      for (const int flip : {0x01, 0x10, 0x80, 0xff}) {
        auto bad = c.block;
        bad[at] = static_cast<std::uint8_t>(bad[at] ^ flip);
        check(decoder, c, bad);
      }
    }
    CHECK(decode(decoder, kGeometry, {c.range, 0}, c.block).ok());  // the decoder is not spoilt
  }
}

TEST_CASE("a quantised block cut off anywhere, or with bytes after it, is refused") {
  for (const Case& c : cases()) {
    BlockDecoder decoder(kGeometry, c.codebook);
    for (std::size_t size = 0; size < c.block.size(); ++size) {
      const std::vector<std::uint8_t> cut(c.block.begin(),
                                          c.block.begin() + static_cast<std::ptrdiff_t>(size));
      const auto got = decode(decoder, kGeometry, {c.range, 0}, cut);
      CAPTURE(size);
      REQUIRE(!got.ok());
      CHECK(got.error().code == ErrorCode::kMalformed);
    }
    auto longer = c.block;
    longer.push_back(0);
    CHECK(decode(decoder, kGeometry, {c.range, 0}, longer).error().code == ErrorCode::kMalformed);
  }
}

TEST_CASE("random content behind a good header is refused or decodes to finite rows") {
  for (const Case& c : cases()) {
    BlockDecoder decoder(kGeometry, c.codebook);
    for (std::uint32_t seed = 0; seed < 2000; ++seed) {
      auto bad = c.block;
      const auto noise = random_bytes(bad.size(), seed);
      // From a random place on, so that all fields have their turn.
      const std::size_t header = parse_block_header(bad)->content_offset();
      const std::size_t from = header + noise[0] % (seed % 2 == 0 ? 16u : bad.size() - header);
      for (std::size_t i = from; i < bad.size(); ++i) bad[i] = noise[i];
      check(decoder, c, bad);
    }
  }
}

TEST_CASE("fields out of their range are named") {
  const Case c = cases()[0];
  const std::size_t at = kBlockHeaderBytes;
  REQUIRE(c.block[at + 2] == 0);  // one lane, no ids, no means
  contains(refusal(c, at, {0x41, 0x01}), "a step of 2^(321/8)");
  contains(refusal(c, at, {0xbf, 0xfe}), "a step of 2^(-321/8)");
  contains(refusal(c, at + 2, {0x08}), "unknown flags 8");
  contains(refusal(c, at + 2, {0x02, 0x00, 102}), "table id");
  contains(refusal(c, at + 3, {0x80}), "table id -128 of channel 0");
  contains(refusal(c, at + 3, {0x66}), "table id 102 of channel 0");
  contains(refusal(c, at + 4, {0xff, 0xff, 0xff, 0xff, 0x1f}), "the lengths");
  contains(refusal(c, at + 4, {0xff, 0xff, 0xff, 0xff, 0x0f, 0x00}), "are left");

  const Case alone = cases()[2];
  contains(refusal(alone, at + 2, {0x01}), "without a token");
  contains(refusal(alone, at + 3 + 11, {0x7c}), "not finite");
}

TEST_CASE("classes and codebooks that do not fit are refused") {
  const Case c = cases()[1];
  BlockDecoder with(kGeometry, kCodebook);
  BlockDecoder without(kGeometry);
  BlockDecoder other(kGeometry, test_codebook(kGeometry, 4));
  CHECK(decode(with, kGeometry, {c.range, 0}, c.block).ok());
  for (BlockDecoder* decoder : {&without, &other}) {
    const auto got = decode(*decoder, kGeometry, {c.range, 0}, c.block);
    REQUIRE(!got.ok());
    CHECK(got.error().code == ErrorCode::kUnsupported);
    contains(got.error().message, "codebook");
  }
  // Six tokens' classes follow the codebook's id; the last half byte is padding.
  contains(refusal(c, 28, {0xff}), "class of token 0");
  contains(refusal(c, 29, {0x10}), "class of token 6");

  BlockEncoder encoder(kGeometry, kCodebook);
  const auto rows = cache_like_rows(kGeometry, 6, 2);
  const std::vector<std::uint8_t> few(5, 0), large(6, 3);
  CHECK(encode(encoder, kGeometry, {Profile::kLow, c.range, few}, rows).error().code ==
        ErrorCode::kInvalidArgument);
  CHECK(encode(encoder, kGeometry, {Profile::kLow, c.range, large}, rows).error().code ==
        ErrorCode::kInvalidArgument);
  KvGeometry wider = kGeometry;
  wider.kv_heads = 4;
  BlockEncoder misfit(wider, kCodebook);
  CHECK(
      encode(misfit, wider, {Profile::kLow, c.range}, cache_like_rows(wider, 6, 2)).error().code ==
      ErrorCode::kMismatch);
}
