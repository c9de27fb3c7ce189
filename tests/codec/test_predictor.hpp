// A predictor for the codec's tests, and rows that it predicts.
#pragma once

#include <memory>
#include <random>
#include <utility>
#include <vector>

#include "kvferry/codec/predictor.hpp"

#include "quantised_rows.hpp"

namespace kvferry {

inline Half random_half(std::mt19937& random, float scale) {
  return to_half(scale * (static_cast<float>(random() % 2001) - 1000.0f) / 1000.0f);
}

// Of random maps and, for a basis, a random permutation with signs.
inline std::shared_ptr<const Predictor> test_predictor(const KvGeometry& g,
                                                       const Codebook& codebook,
                                                       std::uint32_t depth, std::uint32_t seed) {
  std::mt19937 random(seed);
  const std::size_t width = g.row_values();
  std::vector<PredictorLayer> layers(g.layers);
  for (std::uint32_t l = 0; l < g.layers; ++l) {
    for (const Plane p : {Plane::kKey, Plane::kValue}) {
      const std::size_t inputs = 2 * std::min(l, depth) + (p == Plane::kValue ? 1 : 0);
      if (inputs == 0) continue;
      PredictorPlane& plane = layers[l].plane(p);
      for (std::size_t i = 0; i < (inputs * width + 1) * width; ++i)
        plane.map.push_back(random_half(random, 0.2f));
      plane.basis.assign(width * width, Half{0});
      std::vector<std::size_t> order(width);
      for (std::size_t c = 0; c < width; ++c) order[c] = c;
      for (std::size_t c = width; c > 1; --c) std::swap(order[c - 1], order[random() % c]);
      for (std::size_t c = 0; c < width; ++c)
        plane.basis[c * width + order[c]] = to_half(random() % 2 == 0 ? 1.0f : -1.0f);
      plane.spreads.assign(width, 0);
    }
  }
  return Predictor::create(codebook.model(), codebook.id(), g.kv_heads, g.head_dim, depth,
                           std::move(layers))
      .value();
}

}  // namespace kvferry
