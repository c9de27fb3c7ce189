// How the next token is chosen, as plain data: it travels with a hand-off (wire layer), and the
// sampler (engine/sampler.hpp) works on it.
#pragma once

#include <cstdint>

namespace kvferry {

// Ranges are checked by the sampler and by the wire parser: validate() in engine/sampler.hpp.
struct SamplerParams {
  float temperature = 0.0f;              // [0, 100]; 0 = greedy, the lowest id wins a tie
  std::uint32_t top_k = 0;               // 0 = off; else the k most likely tokens stay
  float top_p = 1.0f;                    // (0, 1]; 1 = off
  float min_p = 0.0f;                    // [0, 1); 0 = off; relative to the most likely token
  float repetition_penalty = 1.0f;       // [0.1, 10]; 1 = off
  std::uint32_t repetition_window = 64;  // last tokens that the penalty looks at
  std::uint64_t seed = 0;
};

// Everything that changes while sampling. Draw n of a seed does not depend on the machine, so a
// generation continues identically wherever it is handed over.
struct SamplerState {
  std::uint64_t draws = 0;  // random numbers used so far
};

}  // namespace kvferry
