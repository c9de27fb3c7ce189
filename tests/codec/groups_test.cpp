// q8 and q4h: groups of 32 with a scale, K before RoPE.
#include <algorithm>
#include <cmath>
#include <limits>

#include <catch2/catch.hpp>

#include "kvferry/codec/block_format.hpp"

#include "codec_rows.hpp"

using namespace kvferry;

namespace {

// Rotation of one head by doubles and the C library, forwards (+1) or backwards (-1).
void rotate_reference(const RopeSpec& rope, std::uint32_t position, double direction,
                      std::vector<double>& head) {
  const std::size_t pairs = rope.inverse_frequency.size();
  for (std::size_t i = 0; i < pairs; ++i) {
    const double angle = direction * position * static_cast<double>(rope.inverse_frequency[i]);
    const bool split = rope.layout == RopeLayout::kSplitHalves;
    double& a = head[split ? i : 2 * i];
    double& b = head[split ? i + pairs : 2 * i + 1];
    const double x = a;
    a = x * std::cos(angle) - b * std::sin(angle);
    b = x * std::sin(angle) + b * std::cos(angle);
  }
}

std::vector<double> head_of(const std::vector<float>& values, std::size_t at, std::size_t dim) {
  return std::vector<double>(values.begin() + static_cast<std::ptrdiff_t>(at),
                             values.begin() + static_cast<std::ptrdiff_t>(at + dim));
}

// Largest magnitude of the group of value d.
double group_peak(const std::vector<double>& head, std::size_t d) {
  double peak = 0;
  const std::size_t begin = d / 32 * 32;
  for (std::size_t i = begin; i < std::min(begin + 32, head.size()); ++i)
    peak = std::max(peak, std::abs(head[i]));
  return peak;
}

}  // namespace

TEST_CASE("the error of q8 is at most half a step, before the rotation") {
  for (const std::uint32_t head_dim : {6u, 64u, 80u, 96u, 128u}) {
    for (const RopeLayout layout : {RopeLayout::kInterleaved, RopeLayout::kSplitHalves}) {
      for (const ElementType type : {ElementType::kF16, ElementType::kF32}) {
        for (const std::uint32_t tokens : {1u, 31u, 256u}) {
          for (const Plane plane : {Plane::kKey, Plane::kValue}) {
            for (const std::uint32_t moved : {0u, 1000u}) {
              KvGeometry g = codec_geometry(type, head_dim, layout);
              if (head_dim == 96) g.rope.inverse_frequency.resize(24);  // half of a head rotates
              CAPTURE(head_dim, name_of(type), tokens, name_of(plane), moved);
              BlockEncoder encoder(g);
              BlockDecoder decoder(g);
              const KvRange range{1, plane, 1001, 1001 + tokens};
              const auto rows = cache_like_rows(g, tokens, tokens);
              const auto block = encode(encoder, g, {Profile::kQ8, range}, rows).value();
              CHECK(block.size() == kBlockHeaderBytes + tokens * g.row_values() +
                                        2 * tokens * g.kv_heads * ((head_dim + 31) / 32));
              KvRange to = range;
              to.begin -= moved;
              to.end -= moved;
              const auto got =
                  decode(decoder, g, {to, -static_cast<std::int64_t>(moved)}, block).value();
              const auto before = floats_of(type, rows);
              const auto after = floats_of(type, got);
              double worst = 0;
              for (std::size_t at = 0; at < before.size(); at += head_dim) {
                const auto t = static_cast<std::uint32_t>(at / g.row_values());
                auto a = head_of(before, at, head_dim);
                auto b = head_of(after, at, head_dim);
                if (plane == Plane::kKey) {
                  rotate_reference(g.rope, range.begin + t, -1, a);
                  rotate_reference(g.rope, to.begin + t, -1, b);
                }
                for (std::size_t d = 0; d < head_dim; ++d) {
                  const double step = group_peak(a, d) / 127 * (1 + 1.0 / 1024);
                  // The decoded pair was rounded to the type after its rotation.
                  const double rounding = type == ElementType::kF16 ? 0.0015 * group_peak(a, d) : 0;
                  worst = std::max(worst, (std::abs(a[d] - b[d]) - rounding) / step);
                }
              }
              CHECK(worst < 0.5 + 1e-3);
              CHECK(worst > 0.25);  // the step is no finer than it says
            }
          }
        }
      }
    }
  }
}

TEST_CASE("values that 8 bits and a scale cannot hold fall back to the lossless bytes") {
  const float infinity = std::numeric_limits<float>::infinity();
  for (const float odd : {infinity, -infinity, std::nanf(""), 3e38f, 1e7f}) {
    for (const Plane plane : {Plane::kKey, Plane::kValue}) {
      const KvGeometry g = codec_geometry(ElementType::kF32, 64);
      BlockEncoder encoder(g);
      BlockDecoder decoder(g);
      const KvRange range{0, plane, 100, 110};
      auto values = floats_of(g.type, cache_like_rows(g, 10, 4));
      values[777] = odd;
      std::vector<std::uint8_t> rows(10 * g.row_bytes());
      store_rows(g.type, values, rows);
      const auto block = encode(encoder, g, {Profile::kQ8, range}, rows).value();
      const BlockHeader header = parse_block_header(block).value();
      CHECK(header.profile == Profile::kQ8);
      CHECK(header.method == BlockMethod::kPlanes);
      CHECK(decode(decoder, g, {range, 0}, block).value() == rows);
      auto moved = decode(decoder, g, {{0, plane, 90, 100}, -10}, block);
      if (plane == Plane::kKey) {
        REQUIRE(!moved.ok());
        CHECK(moved.error().code == ErrorCode::kUnsupported);
        CHECK(moved.error().message.find("after RoPE") != std::string::npos);
      } else {
        CHECK(moved.value() == rows);
      }
    }
  }
}

TEST_CASE("extreme finite values stay finite, zeros stay zero") {
  for (const ElementType type : {ElementType::kF16, ElementType::kBF16, ElementType::kF32}) {
    const KvGeometry g = codec_geometry(type, 64);
    BlockEncoder encoder(g);
    BlockDecoder decoder(g);
    const KvRange range{0, Plane::kKey, 5, 6};
    for (const float value : {65504.0f, -65504.0f, 6e-8f, 1e-30f, 0.0f}) {
      std::vector<std::uint8_t> rows(g.row_bytes());
      store_rows(type, std::vector<float>(g.row_values(), value), rows);
      const auto block = encode(encoder, g, {Profile::kQ8, range}, rows).value();
      CHECK(parse_block_header(block).value().method == BlockMethod::kInt8Groups);
      for (const float v : floats_of(type, decode(decoder, g, {range, 0}, block).value())) {
        REQUIRE(std::isfinite(v));
        REQUIRE(std::abs(v) <= 1.5f * std::abs(value) + 1e-7f);
      }
    }
  }
}

TEST_CASE("q8 decodes to another type as it does to float, rounded once") {
  const KvGeometry from = codec_geometry(ElementType::kF32, 80);
  const KvRange range{0, Plane::kKey, 33, 60};
  BlockEncoder encoder(from);
  const auto block =
      encode(encoder, from, {Profile::kQ8, range}, cache_like_rows(from, 27, 6)).value();
  BlockDecoder plain(from);
  const auto floats = floats_of(from.type, decode(plain, from, {range, 0}, block).value());
  for (const ElementType to : {ElementType::kF16, ElementType::kBF16}) {
    const KvGeometry g = codec_geometry(to, 80);
    BlockDecoder decoder(g);
    std::vector<std::uint8_t> expected(27 * g.row_bytes());
    store_rows(to, floats, expected);
    CHECK(decode(decoder, g, {range, 0}, block).value() == expected);
  }
}

TEST_CASE("raw and lossless refuse to move, of either plane") {
  const KvGeometry g = codec_geometry(ElementType::kF16, 64);
  BlockEncoder encoder(g);
  BlockDecoder decoder(g);
  for (const Profile profile : {Profile::kRaw, Profile::kLossless}) {
    for (const Plane plane : {Plane::kKey, Plane::kValue}) {
      const KvRange range{0, plane, 8, 16};
      const auto block = encode(encoder, g, {profile, range}, cache_like_rows(g, 8, 1)).value();
      const auto moved = decode(decoder, g, {{0, plane, 0, 8}, -8}, block);
      REQUIRE(!moved.ok());
      CHECK(moved.error().code == ErrorCode::kUnsupported);
      CHECK(moved.error().message.find(name_of(profile)) != std::string::npos);
    }
  }
}
