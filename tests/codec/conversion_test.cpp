// Conversion in flight: from and to every element type, and to other positions.
#include <algorithm>
#include <cmath>

#include <catch2/catch.hpp>

#include "kvferry/cache/strided.hpp"

#include "quantised_rows.hpp"

using namespace kvferry;

namespace {

constexpr Profile kAll[] = {Profile::kRaw, Profile::kLossless, Profile::kHigh, Profile::kMedium,
                            Profile::kLow, Profile::kLowest,   Profile::kQ8,   Profile::kQ4H};
constexpr ElementType kTypes[] = {ElementType::kF16, ElementType::kBF16, ElementType::kF32};

// The spacing of F16 about a number.
double half_ulp_at(double v) {
  return std::exp2(std::max(std::floor(std::log2(std::abs(v) + 1e-30)), -14.0) - 10);
}

// K of a row, turned to a position in doubles.
std::vector<double> turned(const KvGeometry& g, const float* row, double position) {
  std::vector<double> out(row, row + g.row_values());
  const std::size_t pairs = g.rope.inverse_frequency.size();
  for (std::size_t head = 0; head < out.size(); head += g.head_dim) {
    for (std::size_t i = 0; i < pairs; ++i) {
      const bool split = g.rope.layout == RopeLayout::kSplitHalves;
      const std::size_t a = head + (split ? i : 2 * i);
      const std::size_t b = split ? a + pairs : a + 1;
      const double angle = position * static_cast<double>(g.rope.inverse_frequency[i]);
      const double x = out[a];
      const double y = out[b];
      out[a] = x * std::cos(angle) - y * std::sin(angle);
      out[b] = x * std::sin(angle) + y * std::cos(angle);
    }
  }
  return out;
}

}  // namespace

TEST_CASE("every type goes to every type with one rounding, in every profile") {
  const KvRange range{1, Plane::kKey, 0, 70};
  for (const ElementType from : kTypes) {
    const KvGeometry source = codec_geometry(from, 64);
    const auto codebook = test_codebook(source, 3);
    BlockEncoder encoder(source, codebook);
    const auto rows = cache_like_rows(source, 70, 6);
    for (const Profile profile : kAll) {
      const auto block = encode(encoder, source, {profile, range}, rows).value();
      BlockDecoder exact(codec_geometry(ElementType::kF32, 64), codebook);
      const auto floats = floats_of(
          ElementType::kF32,
          decode(exact, codec_geometry(ElementType::kF32, 64), {range, 0}, block).value());
      if (!is_lossy(profile)) CHECK(floats == floats_of(from, rows));
      for (const ElementType to : kTypes) {
        CAPTURE(name_of(profile), size_of(from), size_of(to));
        const KvGeometry g = codec_geometry(to, 64);
        BlockDecoder decoder(g, codebook);
        std::vector<std::uint8_t> expected(70 * g.row_bytes());
        store_rows(to, floats, expected);
        CHECK(decode(decoder, g, {range, 0}, block).value() == expected);
      }
    }
  }
}

TEST_CASE("at any position K is the block's own K turned there, within an F16 ulp") {
  for (const RopeLayout layout : {RopeLayout::kInterleaved, RopeLayout::kSplitHalves}) {
    const KvGeometry g = codec_geometry(ElementType::kF16, 80, layout);
    // Without RoPE the block decodes to K before RoPE.
    const KvGeometry still = unrotated(codec_geometry(ElementType::kF32, 80));
    const auto codebook = test_codebook(g, 3);
    BlockEncoder encoder(g, codebook);
    BlockDecoder decoder(g, codebook);
    BlockDecoder still_decoder(still, codebook);
    for (const Profile profile : kAll) {
      if (!is_lossy(profile)) continue;
      const KvRange from{0, Plane::kKey, 3000, 3030};
      const auto block = encode(encoder, g, {profile, from}, cache_like_rows(g, 30, 4)).value();
      const auto plain =
          floats_of(still.type, decode(still_decoder, still, {from, 0}, block).value());
      for (const std::uint32_t to : {0u, 1u, 2999u, 3000u, 100000u}) {
        const KvRange target{0, Plane::kKey, to, to + 30};
        const auto offset = static_cast<std::int64_t>(to) - 3000;
        const auto got = floats_of(g.type, decode(decoder, g, {target, offset}, block).value());
        double worst = 0;
        for (std::size_t t = 0; t < 30; ++t) {
          const float* row = plain.data() + t * g.row_values();
          const std::vector<double> expected = turned(g, row, static_cast<double>(to + t));
          for (std::size_t c = 0; c < expected.size(); ++c) {
            const double error = std::abs(got[t * g.row_values() + c] - expected[c]);
            worst = std::max(worst, error / half_ulp_at(expected[c]));
          }
        }
        CAPTURE(name_of(profile), to);
        CHECK(worst <= 1.0);
        CHECK(worst > 0.1);
      }
    }
  }
}

TEST_CASE("a cache goes from one order of the axes and type to another") {
  constexpr std::uint32_t kTokens = 33;
  const KvGeometry from = codec_geometry(ElementType::kF32, 64);
  const KvGeometry to = codec_geometry(ElementType::kF16, 64);
  const std::ptrdiff_t heads = from.kv_heads;
  const std::ptrdiff_t values = from.head_dim;
  // [layers, plane, heads, values, tokens], and [tokens, layers, plane, heads, values].
  std::vector<float> source_memory(std::size_t{2} * from.layers * from.row_values() * kTokens);
  for (std::size_t i = 0; i < source_memory.size(); ++i)
    source_memory[i] = static_cast<float>(i % 4001) / 16.0f - 100.0f;
  std::vector<std::uint16_t> sink_memory(source_memory.size());
  const std::ptrdiff_t plane = heads * values * kTokens * 4;
  const StridedSource source(StridedMemory::contiguous(
      from, kTokens, reinterpret_cast<std::uint8_t*>(source_memory.data()), 2 * plane, plane,
      {4, values * kTokens * 4, kTokens * 4}));
  const std::ptrdiff_t row = heads * values * 2;
  StridedSink sink(
      StridedMemory::contiguous(to, kTokens, reinterpret_cast<std::uint8_t*>(sink_memory.data()),
                                2 * row, row, {2 * to.layers * row, values * 2, 2}),
      [](const KvImportPlan& plan) {
        return Result<KvCommit>(KvCommit{1, plan.end});
      });
  KvImportPlan plan;
  plan.end = kTokens;
  plan.tokens.resize(kTokens);
  REQUIRE(sink.begin(plan).ok());
  BlockEncoder encoder(from);
  BlockDecoder decoder(to);
  for (std::uint32_t layer = 0; layer < from.layers; ++layer) {
    for (const Plane p : {Plane::kKey, Plane::kValue}) {
      const KvRange range{layer, p, 0, kTokens};
      std::vector<std::uint8_t> rows(kTokens * from.row_bytes());
      REQUIRE(source.read(range, rows).ok());
      const auto block = encode(encoder, from, {Profile::kLossless, range}, rows).value();
      REQUIRE(sink.write(range, decode(decoder, to, {range, 0}, block).value()).ok());
    }
  }
  REQUIRE(sink.commit().ok());
  const std::size_t channels = std::size_t{2} * from.layers * from.row_values();
  for (std::size_t c = 0; c < channels; ++c) {
    for (std::size_t t = 0; t < kTokens; ++t)
      REQUIRE(sink_memory[t * channels + c] == to_half(source_memory[c * kTokens + t]).bits);
  }
}
