// KvGeometry: the shape of a KV cache, and KvRange: a rectangle of it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "kvferry/core/result.hpp"
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

// The largest geometry that anything here accepts, so that sizes computed from one that came from a
// peer cannot overflow: 256 tokens of a plane are at most 64 MiB.
constexpr std::uint32_t kMaxLayers = 4096;
constexpr std::uint32_t kMaxRowValues = 65536;
constexpr float kMaxInverseFrequency = 65536.0f;  // radians a token

// kInvalidArgument, naming the field, unless caches of this shape can be stored and moved.
inline Status validate(const KvGeometry& g) {
  const auto refuse = [](const std::string& what) {
    return Status(ErrorCode::kInvalidArgument, "KV geometry: " + what);
  };
  if (g.layers == 0 || g.layers > kMaxLayers || g.first_layer > kMaxLayers - g.layers) {
    return refuse("layers " + std::to_string(g.first_layer) + " + " + std::to_string(g.layers) +
                  " is not within 1.." + std::to_string(kMaxLayers));
  }
  if (g.kv_heads == 0 || g.kv_heads > kMaxRowValues)
    return refuse("kv_heads is " + std::to_string(g.kv_heads));
  if (g.head_dim == 0 || g.head_dim % 2 != 0 || g.head_dim > kMaxRowValues)
    return refuse("head_dim " + std::to_string(g.head_dim) + " is not a positive even number");
  if (g.row_values() > kMaxRowValues) {
    return refuse("a row of " + std::to_string(g.row_values()) + " values is above " +
                  std::to_string(kMaxRowValues));
  }
  if (static_cast<std::uint8_t>(g.type) > static_cast<std::uint8_t>(ElementType::kF32))
    return refuse("unknown element type");
  if (g.rope.inverse_frequency.size() > g.head_dim / 2) {
    return refuse("RoPE rotates " + std::to_string(2 * g.rope.inverse_frequency.size()) +
                  " values of a head of " + std::to_string(g.head_dim));
  }
  for (const float f : g.rope.inverse_frequency) {
    if (!(f >= -kMaxInverseFrequency && f <= kMaxInverseFrequency))
      return refuse("RoPE has an inverse frequency of " + std::to_string(f));
  }
  return Status();
}

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

// "layer 3 K tokens [0, 256)", for messages.
inline std::string to_string(const KvRange& r) {
  return "layer " + std::to_string(r.layer) + " " + name_of(r.plane) + " tokens [" +
         std::to_string(r.begin) + ", " + std::to_string(r.end) + ")";
}

// kInvalidArgument unless `r` is a non-empty range of a layer that `g` holds and `bytes` is exactly
// the size of its rows.
inline Status check_rows(const KvGeometry& g, const KvRange& r, std::size_t bytes) {
  const auto refuse = [&r](const std::string& what) {
    return Status(ErrorCode::kInvalidArgument, to_string(r) + ": " + what);
  };
  if (!g.holds_layer(r.layer)) {
    return refuse("the cache holds layers [" + std::to_string(g.first_layer) + ", " +
                  std::to_string(g.first_layer + g.layers) + ")");
  }
  if (r.plane != Plane::kKey && r.plane != Plane::kValue) return refuse("no such plane");
  if (r.begin >= r.end) return refuse("empty range");
  if (bytes / g.row_bytes() != r.tokens() || bytes % g.row_bytes() != 0) {
    return refuse("got " + std::to_string(bytes) + " bytes for rows of " +
                  std::to_string(g.row_bytes()) + " bytes");
  }
  return Status();
}

}  // namespace kvferry
