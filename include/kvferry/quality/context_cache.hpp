// ContextCache: the cache of one context as plain F32 rows, outside of any pool.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "kvferry/cache/sequence.hpp"

namespace kvferry {

struct ContextCache {
  KvGeometry geometry;  // of type F32
  std::vector<TokenId> tokens;
  std::vector<float> values;     // [layers, plane (K, V), tokens, kv_heads, head_dim]; K after RoPE
  std::vector<float> attention;  // [layers, tokens] of PrefillRequest::attention, or empty
  std::uint32_t chunk_tokens = 1;  // of the prefill, at least 1

  std::uint32_t length() const { return static_cast<std::uint32_t>(tokens.size()); }
  // Number of planes, and of values in one of them.
  std::size_t planes() const { return std::size_t{2} * geometry.layers; }
  std::size_t plane_values() const { return tokens.size() * geometry.row_values(); }
  // Which rows plane `index` holds.
  KvRange range(std::size_t index) const {
    return {geometry.first_layer + static_cast<std::uint32_t>(index / 2),
            index % 2 == 0 ? Plane::kKey : Plane::kValue, 0, length()};
  }

  // The published tokens of a sequence of F32, as if prefilled in one chunk.
  static Result<ContextCache> read(const KvSequence& sequence);
  // A new sequence of a pool of F32 with these rows. kResourceExhausted when the pool is full.
  Result<std::shared_ptr<KvSequence>> write(const std::shared_ptr<KvPool>& pool) const;
};

}  // namespace kvferry
