// The same rows give the same bytes: on every machine that runs this test, from every encoder.
#include <thread>

#include <catch2/catch.hpp>

#include "kvferry/core/hash.hpp"

#include "quantised_rows.hpp"

using namespace kvferry;

namespace {

// A division rounds alike everywhere, pow() does not.
KvGeometry pinned_geometry(ElementType type, RopeLayout layout) {
  KvGeometry g = codec_geometry(type, 80, layout);
  for (std::size_t i = 0; i < 40; ++i)
    g.rope.inverse_frequency[i] = 1.0f / static_cast<float>(1 + 3 * i * i);
  return g;
}

}  // namespace

TEST_CASE("the bytes of raw, q8 and q4h are pinned") {
  // Hashes of blocks that version 1 of the format gave; lossless depends on the zstd release.
  struct Pinned {
    Profile profile;
    ElementType type;
    RopeLayout layout;
    std::uint64_t hash;
  };
  for (const Pinned& p :
       {Pinned{Profile::kRaw, ElementType::kF16, RopeLayout::kInterleaved, 0x3741c80ce2a8b315},
        Pinned{Profile::kQ8, ElementType::kF16, RopeLayout::kInterleaved, 0xedd01c9b0f957caa},
        Pinned{Profile::kQ8, ElementType::kBF16, RopeLayout::kSplitHalves, 0xddb3a23f7ea0d211},
        Pinned{Profile::kQ8, ElementType::kF32, RopeLayout::kSplitHalves, 0x7332fc6ccee130c9},
        Pinned{Profile::kQ4H, ElementType::kF16, RopeLayout::kInterleaved, 0x6284eb28942b0e59}}) {
    const KvGeometry g = pinned_geometry(p.type, p.layout);
    BlockEncoder encoder(g);
    const auto block =
        encode(encoder, g, {p.profile, {1, Plane::kKey, 1234, 1301}}, cache_like_rows(g, 67, 8))
            .value();
    CHECK(hash64(block) == p.hash);
  }
}

TEST_CASE("the bytes of quantised blocks, and the rows of V that they give, are pinned") {
  struct Pinned {
    Profile profile;
    Plane plane;
    ElementType type;
    std::uint32_t begin;
    std::uint32_t tokens;
    bool codebook;  // and token classes
    std::uint64_t block;
    std::uint64_t rows;  // of V
  };
  for (const Pinned& p : {Pinned{Profile::kHigh, Plane::kKey, ElementType::kF16, 1234, 67, false,
                                 0xdb3d104eee874b82, 0},
                          Pinned{Profile::kMedium, Plane::kKey, ElementType::kF32, 0, 256, true,
                                 0x6ad2714b3477bc5d, 0},
                          Pinned{Profile::kLow, Plane::kKey, ElementType::kF16, 256, 256, true,
                                 0xb6c9e1433c5fb9e3, 0},
                          Pinned{Profile::kLowest, Plane::kKey, ElementType::kBF16, 70000, 3, true,
                                 0x659b1cb265aae2f2, 0},
                          Pinned{Profile::kHigh, Plane::kValue, ElementType::kF32, 0, 256, false,
                                 0xaf354a901cb954d5, 0x7962a204675e252b},
                          Pinned{Profile::kMedium, Plane::kValue, ElementType::kF16, 31, 100, true,
                                 0xa390d8447526d3ec, 0xeaaf6ae1eece8cca},
                          Pinned{Profile::kLow, Plane::kValue, ElementType::kF16, 0, 255, true,
                                 0xf37372197708750d, 0xd1b530a098962e2d},
                          Pinned{Profile::kLowest, Plane::kValue, ElementType::kF16, 9, 1, false,
                                 0xca8716ca45ca9195, 0xfdabeb7dc290b0d4}}) {
    const KvGeometry g = pinned_geometry(p.type, RopeLayout::kInterleaved);
    const auto codebook = p.codebook ? test_codebook(g, 21) : nullptr;
    const auto classes = random_classes(p.codebook ? p.tokens : 0, 22);
    BlockEncoder encoder(g, codebook);
    BlockDecoder decoder(g, codebook);
    const KvRange range{1, p.plane, p.begin, p.begin + p.tokens};
    const auto block =
        encode(encoder, g, {p.profile, range, classes}, cache_like_rows(g, p.tokens, 8)).value();
    CAPTURE(name_of(p.profile), name_of(p.plane), p.tokens);
    CHECK(hash64(block) == p.block);
    const auto rows = decode(decoder, g, {range, 0}, block).value();
    // The portable rotation of K may differ by an F16 ulp from a later one; V has none.
    if (p.plane == Plane::kValue) CHECK(hash64(rows) == p.rows);
  }
}

TEST_CASE("encoders in several threads and in any state give the same bytes") {
  const KvGeometry g = codec_geometry(ElementType::kF16, 64);
  const auto encode_all = [&g](std::uint32_t first) {
    BlockEncoder encoder(g);
    std::vector<std::uint64_t> hashes(24);
    for (std::uint32_t n = 0; n < 24; ++n) {
      const std::uint32_t i = (first + n * 7) % 24;  // another order in each thread
      const Profile profile = static_cast<Profile>(1 + i % 7);
      const std::uint32_t tokens = 1 + i * 11 % 256;
      const KvRange range{i % 4, i % 3 == 0 ? Plane::kValue : Plane::kKey, i * 5, i * 5 + tokens};
      hashes[i] =
          hash64(encode(encoder, g, {profile, range}, cache_like_rows(g, tokens, i)).value());
    }
    return hashes;
  };
  const auto expected = encode_all(0);
  std::vector<std::vector<std::uint64_t>> got(4);
  std::vector<std::thread> threads;
  for (std::uint32_t t = 0; t < 4; ++t)
    threads.emplace_back([&, t] { got[t] = encode_all(t * 5 + 1); });
  for (std::thread& t : threads) t.join();
  for (const auto& hashes : got) CHECK(hashes == expected);
}
