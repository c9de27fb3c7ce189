// high to lowest: quantised and entropy-coded blocks, against a decoder written from the document.
#include <algorithm>
#include <cmath>
#include <limits>

#include <catch2/catch.hpp>

#include "kvferry/codec/rotation.hpp"

#include "quantised_rows.hpp"
#include "reference_decoder.hpp"

using namespace kvferry;

namespace {

struct Coded {
  std::vector<std::uint8_t> block;
  reference::QuantisedBlock expected;
};

Coded code(const KvGeometry& g, const std::shared_ptr<const Codebook>& codebook,
           const BlockSpec& spec, const std::vector<std::uint8_t>& rows) {
  BlockEncoder encoder(g, codebook);
  Coded coded;
  coded.block = encode(encoder, g, spec, rows).value();
  REQUIRE(parse_block_header(coded.block)->method == BlockMethod::kQuantised);
  coded.expected = reference::decode_quantised(coded.block, g.row_values(), codebook.get());
  return coded;
}

// Values of a block in the order of its rows, position 0 included.
std::vector<float> all_values(const reference::QuantisedBlock& b) {
  std::vector<float> values;
  for (const double v : b.first_row) values.push_back(static_cast<float>(v));
  values.insert(values.end(), b.values.begin(), b.values.end());
  return values;
}

}  // namespace

TEST_CASE("a block decodes to what the document says, each value within half a step") {
  std::uint32_t seed = 1;
  std::size_t escapes = 0;
  for (const std::uint32_t head_dim : {6u, 64u, 80u, 96u, 128u}) {
    const KvGeometry g = unrotated(codec_geometry(ElementType::kF32, head_dim));
    for (const bool has_codebook : {false, true}) {
      const auto codebook = has_codebook ? test_codebook(g, ++seed) : nullptr;
      BlockDecoder decoder(g, codebook);
      for (const Profile profile : kQuantisedProfiles) {
        for (const std::uint32_t tokens : {1u, 2u, 7u, 33u, 256u}) {
          for (const std::uint32_t begin : {0u, 1000u}) {
            for (const Plane plane : {Plane::kKey, Plane::kValue}) {
              const bool has_classes = ++seed % 2 == 0;
              CAPTURE(head_dim, has_codebook, name_of(profile), tokens, begin, name_of(plane),
                      has_classes);
              const auto classes = random_classes(has_classes ? tokens : 0, seed);
              const auto rows = cache_like_rows(g, tokens, seed);
              const KvRange range{2, plane, begin, begin + tokens};
              const Coded c = code(g, codebook, {profile, range, classes}, rows);
              const auto got = floats_of(g.type, decode(decoder, g, {range, 0}, c.block).value());
              CHECK(got == all_values(c.expected));
              CHECK((c.expected.used_up || (begin == 0 && tokens == 1)));
              escapes += c.expected.escapes;
              const auto before = floats_of(g.type, rows);
              const std::size_t first = c.expected.first_row.size();
              CHECK(first == (begin == 0 ? g.row_values() : 0));
              double worst = 0;
              for (std::size_t i = 0; i < got.size(); ++i) {
                const double error = std::abs(static_cast<double>(before[i]) - got[i]);
                const double step = i < first ? std::abs(before[i]) / 1024.0 + 1e-7
                                              : static_cast<double>(c.expected.steps[i - first]);
                worst = std::max(worst, error / step);
              }
              CHECK(worst < 0.5001);
              if (first == 0) CHECK(worst > 0.3);
            }
          }
        }
      }
    }
  }
  CHECK(escapes > 100);
}

TEST_CASE("every number of tokens round-trips") {
  const KvGeometry g = codec_geometry(ElementType::kF16, 64);
  const auto codebook = test_codebook(g, 5);
  BlockEncoder encoder(g, codebook);
  BlockDecoder decoder(g, codebook);
  for (std::uint32_t tokens = 1; tokens <= kMaxBlockTokens; ++tokens) {
    const auto rows = cache_like_rows(g, tokens, tokens);
    const auto classes = random_classes(tokens % 3 == 0 ? tokens : 0, tokens);
    const KvRange range{1, tokens % 2 == 0 ? Plane::kKey : Plane::kValue, 3 * (tokens % 5), 0};
    KvRange whole = range;
    whole.end = range.begin + tokens;
    const auto block = encode(encoder, g, {Profile::kLow, whole, classes}, rows).value();
    CAPTURE(tokens);
    CHECK(parse_block_header(block)->method == BlockMethod::kQuantised);
    const auto got = floats_of(g.type, decode(decoder, g, {whole, 0}, block).value());
    const auto before = floats_of(g.type, rows);
    double energy = 0, error = 0;
    for (std::size_t i = 0; i < got.size(); ++i) {
      energy += static_cast<double>(before[i]) * before[i];
      error += std::pow(static_cast<double>(before[i]) - got[i], 2);
    }
    CHECK(error < 0.1 * energy);
  }
}

TEST_CASE("the rotation is undone before and redone after, at any position") {
  for (const RopeLayout layout : {RopeLayout::kInterleaved, RopeLayout::kSplitHalves}) {
    KvGeometry g = codec_geometry(ElementType::kF32, 80, layout);
    g.rope.inverse_frequency.resize(30);  // the last values of a head pass
    for (const std::uint32_t begin : {0u, 777u}) {
      const KvRange range{0, Plane::kKey, begin, begin + 40};
      auto rows = cache_like_rows(g, 40, 9);
      // What the encoder is to find before RoPE, and the same rows at their positions.
      const auto plain = floats_of(g.type, rows);
      auto turned = plain;
      RopeTable(g.rope, g.head_dim).rotate(turned.data(), begin, 40, g.kv_heads);
      store_rows(g.type, turned, rows);
      BlockEncoder encoder(g);
      BlockDecoder decoder(g);
      const auto block = encode(encoder, g, {Profile::kHigh, range}, rows).value();
      for (const std::uint32_t to : {begin, begin + 5000, begin - begin}) {
        const KvRange target{0, Plane::kKey, to, to + 40};
        const auto offset = static_cast<std::int64_t>(to) - begin;
        auto got = floats_of(g.type, decode(decoder, g, {target, offset}, block).value());
        RopeTable(g.rope, g.head_dim).unrotate(got.data(), to, 40, g.kv_heads);
        double worst = 0;
        for (std::size_t i = 0; i < got.size(); ++i)
          worst = std::max(worst, std::abs(static_cast<double>(plain[i]) - got[i]));
        CHECK(worst < 0.06);  // half a step of 0.65 standard deviations / 8
        CHECK(worst > 0.001);
      }
    }
  }
}

TEST_CASE("Gaussian values take about their entropy") {
  KvGeometry g = unrotated(codec_geometry(ElementType::kF32, 64));
  for (const Profile profile : kQuantisedProfiles) {
    std::mt19937 random(3);
    std::normal_distribution<float> normal;
    std::vector<float> values(256 * g.row_values());
    for (float& v : values) v = 3 * normal(random);
    std::vector<std::uint8_t> rows(256 * g.row_bytes());
    store_rows(g.type, values, rows);
    const Coded c = code(g, nullptr, {profile, {0, Plane::kValue, 8, 264}}, rows);
    const double bits =
        8.0 * static_cast<double>(c.block.size()) / static_cast<double>(values.size());
    double p_log_p = 0;
    const double step = static_cast<double>(c.expected.steps[0]) / 3;
    for (int q = -400; q <= 400; ++q) {
      const double p = 0.5 * (std::erfc((q - 0.5) * step / std::sqrt(2.0)) -
                              std::erfc((q + 0.5) * step / std::sqrt(2.0)));
      if (p > 0) p_log_p -= p * std::log2(p);
    }
    CAPTURE(name_of(profile), bits, p_log_p);
    CHECK(bits < 1.012 * p_log_p + 0.02);
    CHECK(bits > p_log_p - 0.02);
  }
}

TEST_CASE("outliers keep their value") {
  const KvGeometry g = unrotated(codec_geometry(ElementType::kF32, 64));
  auto values = floats_of(g.type, cache_like_rows(g, 256, 4));
  for (std::size_t i = 5; i < values.size(); i += 997) values[i] = i % 2 == 0 ? 100.0f : -45.5f;
  std::vector<std::uint8_t> rows(256 * g.row_bytes());
  store_rows(g.type, values, rows);
  for (const Profile profile : kQuantisedProfiles) {
    const auto codebook = test_codebook(g, 8);
    const KvRange range{0, Plane::kValue, 300, 556};
    const std::vector<std::uint8_t> classes(256, 0);
    const Coded c = code(g, codebook, {profile, range, classes}, rows);
    CHECK(c.expected.escapes >= 40);
    BlockDecoder decoder(g, codebook);
    const auto got = floats_of(g.type, decode(decoder, g, {range, 0}, c.block).value());
    CHECK(got == c.expected.values);
    for (std::size_t i = 0; i < got.size(); ++i)
      REQUIRE(std::abs(got[i] - values[i]) <= 0.5001f * c.expected.steps[i]);
  }
}

TEST_CASE("what steps cannot hold falls back to the lossless bytes") {
  const float infinity = std::numeric_limits<float>::infinity();
  for (const float odd : {infinity, -infinity, std::nanf(""), 3e38f}) {
    for (const std::size_t at : {7u, 1777u}) {  // position 0 and after it
      const KvGeometry g = codec_geometry(ElementType::kF32, 64);
      BlockEncoder encoder(g);
      BlockDecoder decoder(g);
      const KvRange range{0, Plane::kKey, 0, 30};
      auto values = floats_of(g.type, cache_like_rows(g, 30, 4));
      values[at] = odd;
      std::vector<std::uint8_t> rows(30 * g.row_bytes());
      store_rows(g.type, values, rows);
      const auto block = encode(encoder, g, {Profile::kLow, range}, rows).value();
      const BlockHeader header = parse_block_header(block).value();
      CHECK(header.profile == Profile::kLow);
      CHECK(header.method == BlockMethod::kPlanes);
      CHECK(header.required_features == 0);
      CHECK(decode(decoder, g, {range, 0}, block).value() == rows);
    }
  }
}

TEST_CASE("constants, zeros and extremes come back finite and near") {
  for (const ElementType type : {ElementType::kF16, ElementType::kBF16, ElementType::kF32}) {
    const KvGeometry g = codec_geometry(type, 64);
    BlockEncoder encoder(g);
    BlockDecoder decoder(g);
    for (const float value : {0.0f, 1.0f, -65504.0f, 65504.0f, 6e-8f, 1e-30f}) {
      for (const std::uint32_t tokens : {1u, 5u, 64u}) {
        for (const Plane plane : {Plane::kKey, Plane::kValue}) {
          const KvRange range{0, plane, 5, 5 + tokens};
          std::vector<std::uint8_t> rows(tokens * g.row_bytes());
          store_rows(type, std::vector<float>(tokens * g.row_values(), value), rows);
          const auto block = encode(encoder, g, {Profile::kHigh, range}, rows).value();
          for (const float v : floats_of(type, decode(decoder, g, {range, 0}, block).value())) {
            REQUIRE(std::isfinite(v));
            REQUIRE(std::abs(v - value) <= 0.06f * std::abs(value) + 1e-7f);
          }
        }
      }
    }
  }
}

TEST_CASE("any element type at either end") {
  const KvRange range{1, Plane::kKey, 0, 70};
  for (const ElementType from : {ElementType::kF16, ElementType::kBF16, ElementType::kF32}) {
    const KvGeometry source = codec_geometry(from, 64);
    BlockEncoder encoder(source);
    const auto block =
        encode(encoder, source, {Profile::kMedium, range}, cache_like_rows(source, 70, 6)).value();
    const KvGeometry exact = codec_geometry(ElementType::kF32, 64);
    BlockDecoder plain(exact);
    const auto floats = floats_of(exact.type, decode(plain, exact, {range, 0}, block).value());
    for (const ElementType to : {ElementType::kF16, ElementType::kBF16}) {
      const KvGeometry g = codec_geometry(to, 64);
      BlockDecoder decoder(g);
      std::vector<std::uint8_t> expected(70 * g.row_bytes());
      store_rows(to, floats, expected);
      CHECK(decode(decoder, g, {range, 0}, block).value() == expected);
    }
  }
}

TEST_CASE("finer classes of tokens have smaller errors") {
  const KvGeometry g = unrotated(codec_geometry(ElementType::kF32, 64));
  const KvRange range{0, Plane::kValue, 1, 193};
  const auto rows = cache_like_rows(g, 192, 3);
  std::vector<std::uint8_t> classes(192);
  for (std::size_t t = 0; t < 192; ++t) classes[t] = static_cast<std::uint8_t>(t % 3);
  const Coded c = code(g, nullptr, {Profile::kHigh, range, classes}, rows);
  const auto before = floats_of(g.type, rows);
  double error[3] = {};
  for (std::size_t i = 0; i < before.size(); ++i)
    error[i / g.row_values() % 3] +=
        std::pow(static_cast<double>(before[i]) - c.expected.values[i], 2);
  CHECK(error[0] / error[1] == Approx(4).epsilon(0.1));
  CHECK(error[1] / error[2] == Approx(4).epsilon(0.1));
}
