// KvGeometry: the shape of a KV cache, and KvRange: a rectangle of it.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kvferry/model/config.hpp"

namespace kvferry {

// The type of one stored K or V value. The numbers travel on the wire.
enum class ElementType : std::uint8_t { kF16 = 0, kBF16 = 1, kF32 = 2 };

inline const char* name_of(ElementType t) {
  switch (t) {
    case ElementType::kF16:
      return "f16";
    case ElementType::kBF16:
      return "bf16";
    case ElementType::kF32:
      return "f32";
  }
  return "unknown";
}
inline std::size_t size_of(ElementType t) {
  return t == ElementType::kF32 ? 4 : 2;
}

enum class Plane : std::uint8_t { kKey = 0, kValue = 1 };
inline const char* name_of(Plane p) {
  return p == Plane::kKey ? "K" : "V";
}

// Tokens in a cache block. Fixed: prefix sharing, attention partitions and the pool all count in
// it.
constexpr std::uint32_t kBlockTokens = 32;

// Keys are stored after RoPE, values as computed. A machine that holds only some layers of a model
// has first_layer > 0 or layers < the model's; layer numbers are always the model's own.
struct KvGeometry {
  std::uint32_t first_layer = 0;
  std::uint32_t layers = 0;  // layers [first_layer, first_layer + layers)
  std::uint32_t kv_heads = 0;
  std::uint32_t head_dim = 0;
  ElementType type = ElementType::kF16;
  RopeSpec rope;

  // Values in a row: one token of one plane of one layer, [kv_heads, head_dim].
  std::size_t row_values() const { return static_cast<std::size_t>(kv_heads) * head_dim; }
  std::size_t row_bytes() const { return row_values() * size_of(type); }
  bool holds_layer(std::uint32_t layer) const {
    return layer >= first_layer && layer - first_layer < layers;
  }
};

// Every layer of a model, stored as `type`.
inline KvGeometry geometry_of(const ModelConfig& config, ElementType type) {
  KvGeometry g;
  g.layers = config.layers;
  g.kv_heads = config.kv_heads;
  g.head_dim = config.head_dim;
  g.type = type;
  g.rope = config.rope;
  return g;
}

// Tokens [begin, end) of one plane of one layer. Positions are absolute in the sequence.
struct KvRange {
  std::uint32_t layer = 0;
  Plane plane = Plane::kKey;
  std::uint32_t begin = 0;
  std::uint32_t end = 0;

  std::uint32_t tokens() const { return end - begin; }
};

}  // namespace kvferry
