// Rows whose values say where they belong, so that a row found at the wrong place shows.
#pragma once

#include <cstdint>
#include <cstring>
#include <vector>

#include "kvferry/cache/geometry.hpp"
#include "kvferry/cache/sequence.hpp"

namespace kvferry {

inline KvGeometry small_geometry(ElementType type) {
  KvGeometry g;
  g.first_layer = 2;
  g.layers = 3;
  g.kv_heads = 2;
  g.head_dim = 6;
  g.type = type;
  return g;
}

// Value d of head h: a hash of everything, of the element's size. `stamp` stands for the
// computation that made the row.
inline std::uint32_t marked_value(std::uint32_t stamp, std::uint32_t layer, Plane plane,
                                  std::uint32_t head, std::uint32_t d) {
  std::uint64_t x = stamp;
  for (const std::uint64_t part : {std::uint64_t{layer}, static_cast<std::uint64_t>(plane),
                                   std::uint64_t{head}, std::uint64_t{d}}) {
    x = (x * 131 + part + 1) * 0x9e3779b97f4a7c15u;
  }
  return static_cast<std::uint32_t>(x >> 32);
}

inline void append_value(std::vector<std::uint8_t>& out, std::uint32_t value, std::size_t size) {
  for (std::size_t i = 0; i < size; ++i) out.push_back(static_cast<std::uint8_t>(value >> (8 * i)));
}

// Rows [tokens, kv_heads, head_dim] of the tokens with these stamps.
inline std::vector<std::uint8_t> marked_rows(const KvGeometry& g, std::uint32_t layer, Plane plane,
                                             const std::vector<std::uint32_t>& stamps) {
  std::vector<std::uint8_t> rows;
  for (const std::uint32_t stamp : stamps) {
    for (std::uint32_t h = 0; h < g.kv_heads; ++h) {
      for (std::uint32_t d = 0; d < g.head_dim; ++d)
        append_value(rows, marked_value(stamp, layer, plane, h, d), size_of(g.type));
    }
  }
  return rows;
}

// Writes the rows of an open append through its block pointers, as an engine does.
inline void write_append(const KvGeometry& g, const KvAppend& append,
                         const std::vector<std::uint32_t>& stamps) {
  const std::size_t size = size_of(g.type);
  for (std::uint32_t t = append.begin(); t < append.end(); ++t) {
    for (std::uint32_t l = 0; l < g.layers; ++l) {
      for (std::uint32_t p = 0; p < 2; ++p) {
        for (std::uint32_t h = 0; h < g.kv_heads; ++h) {
          for (std::uint32_t d = 0; d < g.head_dim; ++d) {
            const std::uint32_t value = marked_value(stamps[t - append.begin()], g.first_layer + l,
                                                     p == 0 ? Plane::kKey : Plane::kValue, h, d);
            const std::size_t index =
                (((l * 2 + p) * g.kv_heads + h) * std::size_t{32} + t % 32) * g.head_dim + d;
            std::memcpy(append.blocks()[t / 32] + index * size, &value, size);
          }
        }
      }
    }
  }
}

// Appends tokens with ids and content given by `stamps`.
inline Status append_marked(KvSequence& sequence, const std::vector<std::uint32_t>& stamps) {
  KVFERRY_ASSIGN(KvAppend append, sequence.append(stamps));
  write_append(sequence.geometry(), append, stamps);
  append.publish();
  return Status();
}

// True when the rows of [begin, begin + stamps.size()) of every layer and plane are those.
inline bool holds_rows(const KvSequence& sequence, std::uint32_t begin,
                       const std::vector<std::uint32_t>& stamps) {
  if (stamps.empty()) return true;
  const KvGeometry& g = sequence.geometry();
  KvRange range;
  range.begin = begin;
  range.end = begin + static_cast<std::uint32_t>(stamps.size());
  std::vector<std::uint8_t> got(stamps.size() * g.row_bytes());
  for (range.layer = g.first_layer; range.layer < g.first_layer + g.layers; ++range.layer) {
    for (const Plane plane : {Plane::kKey, Plane::kValue}) {
      range.plane = plane;
      if (!sequence.read(range, sequence.generation(), got).ok()) return false;
      if (got != marked_rows(g, range.layer, plane, stamps)) return false;
    }
  }
  return true;
}

// `count` consecutive numbers.
inline std::vector<std::uint32_t> numbers(std::uint32_t first, std::uint32_t count) {
  std::vector<std::uint32_t> out(count);
  for (std::uint32_t i = 0; i < count; ++i) out[i] = first + i;
  return out;
}

inline std::shared_ptr<KvPool> make_pool(const KvGeometry& g, std::uint32_t blocks) {
  return KvPool::create(g, blocks).value();
}

}  // namespace kvferry
