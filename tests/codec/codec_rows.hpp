// Rows and geometries for the codec's tests.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#include <random>
#include <vector>

#include "kvferry/codec/block.hpp"
#include "kvferry/codec/element_rows.hpp"
#include "kvferry/core/half.hpp"

namespace kvferry {

inline KvGeometry codec_geometry(ElementType type, std::uint32_t head_dim,
                                 RopeLayout layout = RopeLayout::kInterleaved) {
  KvGeometry g;
  g.layers = 4;
  g.kv_heads = 3;
  g.head_dim = head_dim;
  g.type = type;
  g.rope.layout = layout;
  for (std::uint32_t i = 0; i < head_dim / 2; ++i) {
    g.rope.inverse_frequency.push_back(
        static_cast<float>(std::pow(10000.0, -2.0 * i / static_cast<double>(head_dim))));
  }
  return g;
}

// Gaussian values whose spread differs from channel to channel, as those of a cache do; made from
// integers alone, so that they are the same on every machine.
inline std::vector<std::uint8_t> cache_like_rows(const KvGeometry& g, std::uint32_t tokens,
                                                 std::uint32_t seed) {
  std::mt19937 random(seed);
  std::vector<float> values(tokens * g.row_values());
  for (std::size_t i = 0; i < values.size(); ++i) {
    std::int32_t sum = 0;
    for (int n = 0; n < 8; ++n) sum += static_cast<std::int32_t>(random() & 0xffff) - 0x8000;
    const float scale = static_cast<float>(1 << (i % g.head_dim * 7 % 5));
    values[i] = static_cast<float>(sum) * scale / 1048576.0f;
  }
  std::vector<std::uint8_t> rows(tokens * g.row_bytes());
  store_rows(g.type, values, rows);
  return rows;
}

inline std::vector<float> floats_of(ElementType type, const std::vector<std::uint8_t>& rows) {
  std::vector<float> values(rows.size() / size_of(type));
  load_rows(type, rows, values);
  return values;
}

inline std::vector<std::uint8_t> random_bytes(std::size_t count, std::uint32_t seed) {
  std::mt19937 random(seed);
  std::vector<std::uint8_t> bytes(count);
  for (std::uint8_t& b : bytes) b = static_cast<std::uint8_t>(random());
  return bytes;
}

// The encoded block, with the output fenced so that a byte written past the bound shows.
inline Result<std::vector<std::uint8_t>> encode(BlockEncoder& encoder, const KvGeometry& g,
                                                const BlockSpec& spec,
                                                const std::vector<std::uint8_t>& rows) {
  const std::size_t most = maximum_encoded_size(g, spec.range.tokens());
  std::vector<std::uint8_t> out(most + 16, 0xa5);
  KVFERRY_ASSIGN(const BlockSize size, encoder.encode(spec, rows, MutableBytes(out.data(), most)));
  for (std::size_t i = most; i < out.size(); ++i) {
    if (out[i] != 0xa5) return Error(ErrorCode::kInternal, "written past the bound");
  }
  if (size.total() > most) return Error(ErrorCode::kInternal, "longer than the bound");
  out.resize(size.total());
  return out;
}

inline Result<std::vector<std::uint8_t>> decode(BlockDecoder& decoder, const KvGeometry& g,
                                                const BlockTarget& target,
                                                const std::vector<std::uint8_t>& block) {
  std::vector<std::uint8_t> rows(target.range.tokens() * g.row_bytes(), 0xa5);
  KVFERRY_TRY(decoder.decode(target, block, rows));
  return rows;
}

}  // namespace kvferry
