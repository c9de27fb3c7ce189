// Blocks of any profile and element type become blocks of a fixed rate.
#include "kvferry/codec/transcoder.hpp"

#include <cmath>
#include <limits>

#include <catch2/catch.hpp>

#include "quantised_rows.hpp"

using namespace kvferry;

namespace {

constexpr std::uint32_t kTokens = 37;

KvGeometry of_type(KvGeometry g, ElementType type) {
  g.type = type;
  return g;
}

std::vector<std::uint8_t> transcode(BlockTranscoder& transcoder, const KvGeometry& g,
                                    const BlockTarget& target, Profile profile,
                                    const std::vector<std::uint8_t>& block) {
  std::vector<std::uint8_t> out(
      maximum_encoded_size(of_type(g, ElementType::kF32), target.range.tokens()));
  out.resize(transcoder.transcode(target, profile, block, out).value().total());
  return out;
}

// Values as they lie in a cache of F32.
std::vector<float> values_of(const KvGeometry& g, const std::shared_ptr<const Codebook>& codebook,
                             const BlockTarget& target, const std::vector<std::uint8_t>& block) {
  const KvGeometry floats = of_type(g, ElementType::kF32);
  BlockDecoder decoder(floats, codebook);
  return floats_of(floats.type, decode(decoder, floats, target, block).value());
}

}  // namespace

TEST_CASE("a block of any profile and type becomes one of eight bits, at any position") {
  for (const ElementType type : {ElementType::kF16, ElementType::kBF16, ElementType::kF32}) {
    for (std::uint8_t p = 0; p <= static_cast<std::uint8_t>(Profile::kQ4H); ++p) {
      for (const Plane plane : {Plane::kKey, Plane::kValue}) {
        const KvGeometry g = codec_geometry(type, 64);
        const auto codebook = test_codebook(g, 3);
        const Profile profile = static_cast<Profile>(p);
        CAPTURE(name_of(type), name_of(profile), name_of(plane));
        BlockEncoder encoder(g, codebook);
        const KvRange range{2, plane, 100, 100 + kTokens};
        const auto block =
            encode(encoder, g, {profile, range}, cache_like_rows(g, kTokens, p)).value();
        BlockTarget target{range, 0};
        if (is_lossy(profile)) {
          target.range.begin += 900;
          target.range.end += 900;
          target.position_offset = 900;
        }
        BlockTranscoder transcoder(g, codebook);
        const auto q8 = transcode(transcoder, g, target, Profile::kQ8, block);
        CHECK(parse_block_header(q8)->method == BlockMethod::kInt8Groups);
        CHECK(parse_block_header(q8)->begin == target.range.begin);
        const auto expected = values_of(g, codebook, target, block);
        const auto got = values_of(g, nullptr, {target.range, 0}, q8);
        // Half a step of a group whose largest value rotation may have split into two.
        float largest = 0;
        for (const float v : expected) largest = std::max(largest, std::abs(v));
        for (std::size_t i = 0; i < got.size(); ++i)
          REQUIRE(std::abs(got[i] - expected[i]) <= 1.5f * largest / 127);
      }
    }
  }
}

TEST_CASE("a block of the fixed rate keeps its symbols wherever it goes") {
  const KvGeometry g = codec_geometry(ElementType::kF16, 64);
  for (const Profile profile : {Profile::kQ8, Profile::kQ4H}) {
    BlockEncoder encoder(g);
    BlockTranscoder transcoder(g);
    const auto block =
        encode(encoder, g, {profile, {1, Plane::kKey, 0, kTokens}}, cache_like_rows(g, kTokens, 1))
            .value();
    const auto moved =
        transcode(transcoder, g, {{1, Plane::kKey, 5000, 5000 + kTokens}, 5000}, profile, block);
    REQUIRE(moved.size() == block.size());
    CHECK(std::equal(block.begin() + kBlockHeaderBytes, block.end(),
                     moved.begin() + kBlockHeaderBytes));
    CHECK(parse_block_header(moved)->begin == 5000);
  }
}

TEST_CASE("what a fixed rate cannot say stays lossless; what is wrong is refused") {
  const KvGeometry g = codec_geometry(ElementType::kF16, 64);
  BlockEncoder encoder(g);
  BlockTranscoder transcoder(g);
  auto rows = cache_like_rows(g, kTokens, 1);
  rows[7] = 0x7c;  // an infinity
  rows[6] = 0;
  const KvRange range{1, Plane::kValue, 9, 9 + kTokens};
  const auto block = encode(encoder, g, {Profile::kLossless, range}, rows).value();
  const auto same = transcode(transcoder, g, {range, 0}, Profile::kQ8, block);
  CHECK(parse_block_header(same)->method == BlockMethod::kPlanes);
  CHECK(values_of(g, nullptr, {range, 0}, same)[3] == std::numeric_limits<float>::infinity());

  std::vector<std::uint8_t> out(maximum_encoded_size(of_type(g, ElementType::kF32), kTokens));
  const auto code = [&](const BlockTarget& target, Profile profile, Bytes bytes) {
    return transcoder.transcode(target, profile, bytes, out).error().code;
  };
  CHECK(code({range, 0}, Profile::kLow, block) == ErrorCode::kInvalidArgument);
  CHECK(code({{1, Plane::kValue, 9, 9}, 0}, Profile::kQ8, block) == ErrorCode::kInvalidArgument);
  CHECK(code({{1, Plane::kValue, 9, 4000000000u}, 0}, Profile::kQ8, block) ==
        ErrorCode::kInvalidArgument);
  CHECK(code({{0, Plane::kValue, 9, 9 + kTokens}, 0}, Profile::kQ8, block) == ErrorCode::kMismatch);
  CHECK(code({{1, Plane::kValue, 10, 10 + kTokens}, 1}, Profile::kQ8, block) ==
        ErrorCode::kUnsupported);  // lossless K and V do not move
  CHECK(code({range, 0}, Profile::kQ8, Bytes(block).first(30)) == ErrorCode::kMalformed);
}
