// Rows and codebooks for the tests of quantised blocks.
#pragma once

#include <cstdint>
#include <memory>
#include <random>
#include <vector>

#include "kvferry/codec/block_format.hpp"
#include "kvferry/codec/codebook.hpp"

#include "codec_rows.hpp"

namespace kvferry {

constexpr Profile kQuantisedProfiles[] = {Profile::kHigh, Profile::kMedium, Profile::kLow,
                                          Profile::kLowest};

// The same shape without RoPE, so that K is coded as V is.
inline KvGeometry unrotated(KvGeometry g) {
  g.rope.inverse_frequency.clear();
  return g;
}

// A codebook with steps, weights, means and spreads of all sorts about those of cache_like_rows().
inline std::shared_ptr<const Codebook> test_codebook(const KvGeometry& g, std::uint32_t seed) {
  std::mt19937 random(seed);
  const auto around = [&random](int middle, int width) {
    return middle + static_cast<int>(random() % static_cast<unsigned>(2 * width + 1)) - width;
  };
  std::vector<CodebookLayer> layers(g.layers);
  for (CodebookLayer& layer : layers) {
    for (const Plane p : {Plane::kKey, Plane::kValue}) {
      CodebookPlane& plane = layer.plane(p);
      plane.step = static_cast<std::int16_t>(around(-16, 8));
      for (std::size_t c = 0; c < g.row_values(); ++c) {
        plane.weights.push_back(static_cast<std::int8_t>(around(0, 12)));
        plane.means.push_back(to_bfloat16(static_cast<float>(around(0, 100)) / 128.0f));
        plane.spreads.push_back(static_cast<std::int8_t>(around(-4, 8)));
      }
    }
  }
  return Codebook::create(7, g.kv_heads, g.head_dim, layers).value();
}

inline std::vector<std::uint8_t> random_classes(std::uint32_t tokens, std::uint32_t seed) {
  std::mt19937 random(seed);
  std::vector<std::uint8_t> classes(tokens);
  for (std::uint8_t& c : classes)
    c = static_cast<std::uint8_t>(random() % 8 < 5 ? 0 : random() % 3);
  return classes;
}

}  // namespace kvferry
