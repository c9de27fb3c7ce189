// A codebook and a predictor of the model that hand-offs are tested with.
#pragma once

#include <memory>

#include "support.hpp"
#include "tests/codec/test_predictor.hpp"

namespace kvferry::testing {

struct Coder {
  std::shared_ptr<const Codebook> codebook;
  std::shared_ptr<const Predictor> predictor;
};

inline Coder test_coder(std::uint32_t seed = 1, std::uint32_t depth = 2) {
  const KvGeometry g = handoff_geometry();
  Coder coder;
  coder.codebook = Codebook::create(Codebook::model_of(handoff_identity()), g.kv_heads, g.head_dim,
                                    test_codebook(g, seed)->layers())
                       .value();
  coder.predictor = test_predictor(g, *coder.codebook, depth, seed);
  return coder;
}

}  // namespace kvferry::testing
