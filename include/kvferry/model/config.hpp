// ModelConfig: the shape of a Llama-family model, as every layer above needs it.
#pragma once

#include <cstdint>

#include "kvferry/model/rope.hpp"

namespace kvferry {

enum class Architecture : std::uint8_t { kLlama = 0, kQwen2 = 1, kQwen3 = 2 };

inline const char* name_of(Architecture a) {
  switch (a) {
    case Architecture::kLlama:
      return "llama";
    case Architecture::kQwen2:
      return "qwen2";
    case Architecture::kQwen3:
      return "qwen3";
  }
  return "unknown";
}

struct ModelConfig {
  Architecture architecture = Architecture::kLlama;
  std::uint32_t layers = 0;
  std::uint32_t heads = 0;     // query heads
  std::uint32_t kv_heads = 0;  // divides heads
  std::uint32_t head_dim = 0;  // values per head, even
  std::uint32_t hidden = 0;    // width of the residual stream
  std::uint32_t ffn = 0;       // width between gate/up and down
  std::uint32_t vocab = 0;
  std::uint32_t context_length = 0;  // most tokens of a sequence
  float norm_epsilon = 1e-5f;        // RMSNorm
  RopeSpec rope;
};

}  // namespace kvferry
