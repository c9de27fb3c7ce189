// The same rows give the same bytes: on every machine that runs this test, from every encoder.
#include <thread>

#include <catch2/catch.hpp>

#include "kvferry/core/hash.hpp"

#include "codec_rows.hpp"

using namespace kvferry;

TEST_CASE("the bytes of raw and q8 are pinned") {
  // Hashes of blocks that version 1 of the format gave; lossless depends on the zstd release.
  struct Pinned {
    Profile profile;
    ElementType type;
    RopeLayout layout;
    std::uint64_t hash;
  };
  for (const Pinned& p :
       {Pinned{Profile::kRaw, ElementType::kF16, RopeLayout::kInterleaved, 0x3741c80ce2a8b315},
        Pinned{Profile::kQ8, ElementType::kF16, RopeLayout::kInterleaved, 0x5a5878f48c258ff9},
        Pinned{Profile::kQ8, ElementType::kBF16, RopeLayout::kSplitHalves, 0x07d4665dfd771414},
        Pinned{Profile::kQ8, ElementType::kF32, RopeLayout::kSplitHalves, 0x99e808fb4189e383}}) {
    KvGeometry g = codec_geometry(p.type, 80, p.layout);
    for (std::size_t i = 0; i < 40; ++i)  // a division rounds alike everywhere, pow() does not
      g.rope.inverse_frequency[i] = 1.0f / static_cast<float>(1 + 3 * i * i);
    BlockEncoder encoder(g);
    const auto block =
        encode(encoder, g, {p.profile, {1, Plane::kKey, 1234, 1301}}, cache_like_rows(g, 67, 8))
            .value();
    CHECK(hash64(block) == p.hash);
  }
}

TEST_CASE("encoders in several threads and in any state give the same bytes") {
  const KvGeometry g = codec_geometry(ElementType::kF16, 64);
  const auto encode_all = [&g](std::uint32_t first) {
    BlockEncoder encoder(g);
    std::vector<std::uint64_t> hashes(24);
    for (std::uint32_t n = 0; n < 24; ++n) {
      const std::uint32_t i = (first + n * 7) % 24;  // another order in each thread
      const Profile profile = i % 2 == 0 ? Profile::kLossless : Profile::kQ8;
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
