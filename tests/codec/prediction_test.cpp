// Blocks that are predicted from the layers before.
#include <catch2/catch.hpp>

#include "kvferry/codec/block_format.hpp"

#include "test_predictor.hpp"

using namespace kvferry;

namespace {

constexpr std::uint32_t kDepth = 2;

// A stream of blocks: every layer, K before V, of tokens [begin, end).
struct Stream {
  std::vector<KvRange> ranges;
  std::vector<std::vector<std::uint8_t>> rows;
  std::vector<std::vector<std::uint8_t>> blocks;
};

struct Fixture {
  KvGeometry geometry;
  std::shared_ptr<const Codebook> codebook = test_codebook(geometry, 1);
  PredictionOptions prediction{test_predictor(geometry, *codebook, kDepth, 2), ordered_product};

  explicit Fixture(std::uint32_t head_dim = 6, ElementType type = ElementType::kF16)
      : geometry(codec_geometry(type, head_dim)) {}

  Stream encode(std::uint32_t begin, std::uint32_t end, Profile profile, bool predicted) const {
    Stream stream;
    BlockEncoder encoder(geometry, codebook, predicted ? prediction : PredictionOptions());
    for (std::uint32_t layer = 0; layer < geometry.layers; ++layer) {
      for (const Plane plane : {Plane::kKey, Plane::kValue}) {
        BlockSpec spec;
        spec.profile = profile;
        spec.range = {layer, plane, begin, end};
        stream.ranges.push_back(spec.range);
        stream.rows.push_back(cache_like_rows(geometry, end - begin, 10 * layer + 3));
        std::vector<std::uint8_t> out(maximum_encoded_size(geometry, end - begin));
        out.resize(encoder.encode(spec, stream.rows.back(), out).value().total());
        stream.blocks.push_back(std::move(out));
      }
    }
    return stream;
  }
};

double error_of(const KvGeometry& g, const std::vector<std::uint8_t>& a,
                const std::vector<std::uint8_t>& b) {
  const std::vector<float> x = floats_of(g.type, a);
  const std::vector<float> y = floats_of(g.type, b);
  double sum = 0;
  for (std::size_t i = 0; i < x.size(); ++i)
    sum += (static_cast<double>(x[i]) - y[i]) * (static_cast<double>(x[i]) - y[i]);
  return sum / static_cast<double>(x.size());
}

}  // namespace

TEST_CASE("predicted blocks decode as near as unpredicted ones") {
  for (const std::uint32_t head_dim : {6u, 80u}) {
    for (const std::uint32_t begin : {0u, 37u}) {
      const Fixture f(head_dim);
      const Stream plain = f.encode(begin, begin + 40, Profile::kMedium, false);
      const Stream predicted = f.encode(begin, begin + 40, Profile::kMedium, true);
      BlockDecoder plain_decoder(f.geometry, f.codebook);
      BlockDecoder decoder(f.geometry, f.codebook, f.prediction);
      for (std::size_t i = 0; i < plain.blocks.size(); ++i) {
        CAPTURE(head_dim, begin, i);
        const BlockHeader header = parse_block_header(predicted.blocks[i]).value();
        CHECK(header.needs(BlockFeature::kPrediction) == (i > 0));
        CHECK(header.layers_before == (i == 0 ? 0 : std::min(kDepth, predicted.ranges[i].layer)));
        BlockTarget target;
        target.range = plain.ranges[i];
        std::vector<std::uint8_t> expected(plain.rows[i].size());
        std::vector<std::uint8_t> got(plain.rows[i].size());
        REQUIRE(plain_decoder.decode(target, plain.blocks[i], expected).ok());
        REQUIRE(decoder.decode(target, predicted.blocks[i], got).ok());
        // The same steps: the same noise, give or take its chance.
        CHECK(error_of(f.geometry, plain.rows[i], got) <
              1.5 * error_of(f.geometry, plain.rows[i], expected) + 1e-9);
      }
    }
  }
}

TEST_CASE("a decoder refuses what it cannot predict, and a hostile block harms nobody") {
  const Fixture f;
  const Stream stream = f.encode(5, 30, Profile::kLow, true);
  const auto decode = [&](BlockDecoder& decoder, std::size_t i,
                          const std::vector<std::uint8_t>& block) {
    BlockTarget target;
    target.range = stream.ranges[i];
    std::vector<std::uint8_t> rows(stream.rows[i].size());
    return decoder.decode(target, block, rows);
  };
  BlockDecoder without(f.geometry, f.codebook);
  CHECK(decode(without, 1, stream.blocks[1]).error().code == ErrorCode::kUnsupported);
  BlockDecoder other(f.geometry, f.codebook,
                     {test_predictor(f.geometry, *f.codebook, kDepth, 9), ordered_product});
  CHECK(decode(other, 1, stream.blocks[1]).error().code == ErrorCode::kUnsupported);
  BlockDecoder decoder(f.geometry, f.codebook, f.prediction);
  CHECK(decode(decoder, 3, stream.blocks[3]).error().code == ErrorCode::kIncomplete);

  for (std::size_t i = 0; i < 3; ++i) REQUIRE(decode(decoder, i, stream.blocks[i]).ok());
  const std::vector<std::uint8_t>& block = stream.blocks[3];
  for (std::size_t at = 0; at < block.size(); ++at) {
    for (const int flip : {0x01, 0x80, 0xff}) {
      auto bad = block;
      bad[at] = static_cast<std::uint8_t>(bad[at] ^ flip);
      BlockTarget target;
      target.range = stream.ranges[3];
      std::vector<std::uint8_t> rows(stream.rows[3].size());
      if (!decoder.decode(target, bad, rows).ok()) continue;
      for (const float v : floats_of(f.geometry.type, rows)) REQUIRE(std::isfinite(v));
    }
  }
}

TEST_CASE("rows that are no numbers are coded without prediction, and so is what depends on them") {
  const Fixture f;
  BlockEncoder encoder(f.geometry, f.codebook, f.prediction);
  BlockDecoder decoder(f.geometry, f.codebook, f.prediction);
  for (std::uint32_t layer = 0; layer < f.geometry.layers; ++layer) {
    BlockSpec spec;
    spec.profile = Profile::kHigh;
    spec.range = {layer, Plane::kKey, 3, 20};
    auto rows = cache_like_rows(f.geometry, 17, layer);
    if (layer == 1) rows[1] = 0x7e;  // NaN
    std::vector<std::uint8_t> block(maximum_encoded_size(f.geometry, 17));
    block.resize(encoder.encode(spec, rows, block).value().total());
    // V was never given: no layer has all that it would be predicted from.
    CHECK(!parse_block_header(block).value().needs(BlockFeature::kPrediction));
    BlockTarget target;
    target.range = spec.range;
    std::vector<std::uint8_t> got(rows.size());
    REQUIRE(decoder.decode(target, block, got).ok());
    if (layer == 1) CHECK(got == rows);
  }
}

TEST_CASE("predicted bytes are the same on every instruction set") {
  std::uint64_t hash = 0;
  const Fixture f(32);
  for (const auto& block : f.encode(0, 64, Profile::kMedium, true).blocks)
    hash = hash64(block, hash);
  CHECK(hash == 0xdcfd7eb5d423fa99u);
}
