// raw and lossless: the same bits come back.
#include <catch2/catch.hpp>

#include "kvferry/codec/block_format.hpp"

#include "codec_rows.hpp"

using namespace kvferry;

namespace {

// Encodes and decodes; returns the encoded size. Requires equal bytes.
std::size_t round_trip(BlockEncoder& encoder, BlockDecoder& decoder, const KvGeometry& g,
                       Profile profile, const KvRange& range,
                       const std::vector<std::uint8_t>& rows) {
  BlockSpec spec;
  spec.profile = profile;
  spec.range = range;
  const auto block = encode(encoder, g, spec, rows).value();
  BlockTarget target;
  target.range = range;
  REQUIRE(decode(decoder, g, target, block).value() == rows);
  return block.size();
}

}  // namespace

TEST_CASE("every pattern of 16 bits survives, in order and shuffled") {
  for (const ElementType type : {ElementType::kF16, ElementType::kBF16}) {
    KvGeometry g = codec_geometry(type, 128);
    g.kv_heads = 2;
    BlockEncoder encoder(g);
    BlockDecoder decoder(g);
    for (const std::uint32_t factor : {1u, 40503u}) {
      std::vector<std::uint8_t> rows;
      for (std::uint32_t i = 0; i < 65536; ++i) {
        const std::uint32_t bits = i * factor;
        rows.push_back(static_cast<std::uint8_t>(bits));
        rows.push_back(static_cast<std::uint8_t>(bits >> 8));
      }
      for (const Plane plane : {Plane::kKey, Plane::kValue}) {
        round_trip(encoder, decoder, g, Profile::kLossless, {1, plane, 7, 263}, rows);
        round_trip(encoder, decoder, g, Profile::kRaw, {1, plane, 7, 263}, rows);
      }
    }
  }
}

TEST_CASE("every length from 1 to 256 and odd starts") {
  for (const ElementType type : {ElementType::kF16, ElementType::kBF16, ElementType::kF32}) {
    const KvGeometry g = codec_geometry(type, 80);
    BlockEncoder encoder(g);
    BlockDecoder decoder(g);
    for (std::uint32_t tokens = 1; tokens <= kMaxBlockTokens; ++tokens) {
      CAPTURE(name_of(type), tokens);
      const KvRange range{tokens % 4, tokens % 2 == 0 ? Plane::kKey : Plane::kValue, tokens * 37,
                          tokens * 38};
      const auto rows = cache_like_rows(g, tokens, tokens);
      round_trip(encoder, decoder, g, Profile::kLossless, range, rows);
      CHECK(round_trip(encoder, decoder, g, Profile::kRaw, range, rows) ==
            kBlockHeaderBytes + rows.size());
    }
  }
}

TEST_CASE("all bits of F32 survive, those of NaN included") {
  const KvGeometry g = codec_geometry(ElementType::kF32, 64);
  BlockEncoder encoder(g);
  BlockDecoder decoder(g);
  auto rows = random_bytes(100 * g.row_bytes(), 3);
  for (std::size_t i = 0; i < 64; ++i) {
    const std::uint32_t bits = 0x7f800000u | (i % 2 == 0 ? 0x80000000u : 0u) | (1u << (i % 23));
    std::memcpy(rows.data() + 12 * i, &bits, 4);
  }
  round_trip(encoder, decoder, g, Profile::kLossless, {0, Plane::kKey, 0, 100}, rows);
}

TEST_CASE("what does not compress is stored within the bound, what does is small") {
  for (const ElementType type : {ElementType::kF16, ElementType::kF32}) {
    const KvGeometry g = codec_geometry(type, 96);
    BlockEncoder encoder(g);
    BlockDecoder decoder(g);
    for (const std::uint32_t tokens : {1u, 2u, 255u, 256u}) {
      const KvRange range{3, Plane::kValue, 1, 1 + tokens};
      const std::size_t size = tokens * g.row_bytes();
      CHECK(round_trip(encoder, decoder, g, Profile::kLossless, range, random_bytes(size, 5)) ==
            maximum_encoded_size(g, tokens));
      const std::vector<std::uint8_t> zeros(size, 0);
      CHECK(round_trip(encoder, decoder, g, Profile::kLossless, range, zeros) < 200);
    }
  }
}

TEST_CASE("F16 rows of Gaussian channels take well below 16 bits a value") {
  const KvGeometry g = codec_geometry(ElementType::kF16, 64);
  BlockEncoder encoder(g);
  BlockDecoder decoder(g);
  const auto rows = cache_like_rows(g, 256, 9);
  const std::size_t bytes =
      round_trip(encoder, decoder, g, Profile::kLossless, {0, Plane::kKey, 0, 256}, rows);
  CHECK(static_cast<double>(bytes) * 16 / static_cast<double>(rows.size()) < 14.3);
}

TEST_CASE("rows of one type decode to another with one rounding") {
  for (const ElementType from : {ElementType::kF16, ElementType::kBF16, ElementType::kF32}) {
    for (const ElementType to : {ElementType::kF16, ElementType::kBF16, ElementType::kF32}) {
      for (const Profile profile : {Profile::kRaw, Profile::kLossless}) {
        CAPTURE(name_of(from), name_of(to), name_of(profile));
        const KvGeometry source = codec_geometry(from, 80);
        const KvGeometry destination = codec_geometry(to, 80);
        BlockEncoder encoder(source);
        BlockDecoder decoder(destination);
        const KvRange range{2, Plane::kKey, 9, 50};
        for (const auto& rows :
             {cache_like_rows(source, 41, 1), random_bytes(41 * source.row_bytes(), 2)}) {
          const auto block = encode(encoder, source, {profile, range}, rows).value();
          const auto got = decode(decoder, destination, {range, 0}, block).value();
          for (std::size_t i = 0; i < 41 * source.row_values(); ++i) {
            std::uint32_t in = 0;
            std::uint32_t out = 0;
            std::memcpy(&in, rows.data() + i * size_of(from), size_of(from));
            std::memcpy(&out, got.data() + i * size_of(to), size_of(to));
            const auto as_float = [](ElementType t, std::uint32_t bits) {
              const auto low = static_cast<std::uint16_t>(bits);
              return t == ElementType::kF32   ? float_from_bits(bits)
                     : t == ElementType::kF16 ? to_float(Half{low})
                                              : to_float(BFloat16{low});
            };
            const float value = as_float(from, in);
            const std::uint32_t expected = from == to                ? in
                                           : to == ElementType::kF32 ? float_bits(value)
                                           : to == ElementType::kF16 ? to_half(value).bits
                                                                     : to_bfloat16(value).bits;
            REQUIRE(out == expected);
          }
        }
      }
    }
  }
}
