#include "kvferry/codec/rotation.hpp"

#include <cmath>
#include <random>

#include <catch2/catch.hpp>

#include "codec_rows.hpp"

using namespace kvferry;

TEST_CASE("sine and cosine are those of the C library") {
  std::mt19937_64 random(11);
  double worst = 0;
  for (int i = 0; i < 200000; ++i) {
    // Magnitudes from 2^-40 to 2^20.
    const double scale = std::ldexp(1.0, static_cast<int>(random() % 61) - 40);
    const double angle = scale * (static_cast<double>(random() >> 11) / 4503599627370496.0 - 1.0);
    const SinCos got = sin_cos(angle);
    worst =
        std::max({worst, std::abs(got.sin - std::sin(angle)), std::abs(got.cos - std::cos(angle))});
  }
  CHECK(worst < 1e-13);
  CHECK(sin_cos(0).sin == 0.0);
  CHECK(sin_cos(0).cos == 1.0);
  for (const double angle : {65536.0 * 4294967295.0, -65536.0 * 4294967295.0}) {
    const SinCos far =
        sin_cos(angle);  // the largest that a geometry allows: defined, and on the circle
    CHECK(std::abs(far.sin * far.sin + far.cos * far.cos - 1) < 1e-3);
  }
}

TEST_CASE("rotating undoes unrotating, whatever was asked for before") {
  for (const RopeLayout layout : {RopeLayout::kInterleaved, RopeLayout::kSplitHalves}) {
    KvGeometry g = codec_geometry(ElementType::kF32, 10, layout);
    g.rope.inverse_frequency.resize(3);  // values 6 to 9 of a head pass
    RopeTable table(g.rope, g.head_dim);
    const auto before = floats_of(g.type, cache_like_rows(g, 20, 2));
    for (const std::uint32_t begin : {0u, 500u, 500u, 499u, 0xffffff00u}) {
      for (const std::uint32_t tokens : {20u, 7u}) {
        auto values = std::vector<float>(before.begin(), before.begin() + tokens * g.row_values());
        table.unrotate(values.data(), begin, tokens, g.kv_heads);
        for (std::size_t i = 6; i < 10; ++i) CHECK(values[i] == before[i]);
        table.rotate(values.data(), begin, tokens, g.kv_heads);
        double worst = 0;
        for (std::size_t i = 0; i < values.size(); ++i)
          worst = std::max(worst, std::abs(static_cast<double>(values[i]) - before[i]));
        CHECK(worst < 1e-5);
      }
    }
  }
}

TEST_CASE("a position's rotation does not depend on the block that it is in") {
  const KvGeometry g = codec_geometry(ElementType::kF32, 64);
  RopeTable whole(g.rope, g.head_dim);
  auto together = floats_of(g.type, cache_like_rows(g, 40, 2));
  auto apart = together;
  whole.rotate(together.data(), 100, 40, g.kv_heads);
  for (std::uint32_t t = 0; t < 40; ++t) {
    RopeTable table(g.rope, g.head_dim);
    table.rotate(apart.data() + t * g.row_values(), 100 + t, 1, g.kv_heads);
  }
  CHECK(apart == together);
}
