// Rows of Q, K and V that are rotated and written to caches: the batch, its blocks, and what must
// stand where afterwards, computed channel by channel from the definitions. C++14.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#include <random>
#include <vector>

#include "kvferry/core/half.hpp"

#include "device_array.hpp"
#include "kernels/cache_write.cuh"

namespace rope_rows {

struct Shape {
  int heads, kv_heads, head_dim;
  int rotated;
  bool is_split;

  int columns() const { return (heads + 2 * kv_heads) * head_dim; }
  // The channel that is rotated together with channel c of a head; c where none is.
  int partner(int c) const {
    if (c >= rotated) return c;
    if (is_split) return c < rotated / 2 ? c + rotated / 2 : c - rotated / 2;
    return c % 2 == 0 ? c + 1 : c - 1;
  }
  bool is_first(int c) const { return c <= partner(c); }
  // Which frequency turns channel c.
  int frequency(int c) const { return is_split ? c % (rotated / 2) : c / 2; }
  // Columns of a product whose heads of Q and K have their pairs side by side.
  int channel_of_column(int column) const {
    const int head = column / head_dim, c = column % head_dim;
    if (head >= heads + kv_heads || c >= rotated || !is_split) return column;
    return head * head_dim + c / 2 + c % 2 * (rotated / 2);
  }
};

// F16 as it is written: no infinities.
inline std::uint16_t half_bits(float v) {
  if (std::isnan(v)) return 0x7fff;
  if (std::fabs(v) > 65504.0f) v = std::copysign(65504.0f, v);
  return kvferry::to_half(v).bits;
}

constexpr int kTokens = 32;  // of a block
constexpr int kLayers = 3, kLayer = 1;
constexpr unsigned kPositions = 200;

// Rows of up to three sequences, each with blocks of its own, in blocks of [layers, K and V,
// kv_heads, tokens, head_dim].
struct Rows {
  Shape shape;
  int count;
  std::vector<std::uint32_t> positions;  // [count]
  std::vector<int> blocks;               // [count] which block has the row
  int block_count = 0;
  std::vector<float> cosines, sines;  // [kPositions, rotated / 2]

  Rows(const Shape& s, int rows, unsigned seed) : shape(s), count(rows) {
    std::mt19937 engine(seed);
    for (int row = 0; row < rows;) {
      const int run = row == 0 && rows > 40 ? rows / 2 : row == 0 ? 1 : rows - row;
      const unsigned begin = engine() % (kPositions - static_cast<unsigned>(rows));
      for (int i = 0; i < run; ++i, ++row) {
        const unsigned position = begin + static_cast<unsigned>(i);
        if (i == 0 || position % kTokens == 0) ++block_count;
        positions.push_back(position);
        blocks.push_back(block_count - 1);
      }
    }
    for (unsigned p = 0; p < kPositions; ++p) {
      for (int i = 0; i < s.rotated / 2; ++i) {
        const double angle = p * std::pow(1000.0, -2.0 * i / s.rotated);
        cosines.push_back(static_cast<float>(1.1 * std::cos(angle)));
        sines.push_back(static_cast<float>(1.1 * std::sin(angle)));
      }
    }
  }

  std::size_t block_values() const {
    return std::size_t{kLayers} * 2 * static_cast<std::size_t>(shape.kv_heads) * kTokens *
           static_cast<std::size_t>(shape.head_dim);
  }
  // Where a value of the layer is among all blocks' values.
  std::size_t place(int row, int plane, int head, int channel) const {
    std::size_t at = static_cast<std::size_t>(blocks[row]) * kLayers + kLayer;
    at = at * 2 + static_cast<std::size_t>(plane);
    at = at * static_cast<std::size_t>(shape.kv_heads) + static_cast<std::size_t>(head);
    at = at * kTokens + positions[row] % kTokens;
    return at * static_cast<std::size_t>(shape.head_dim) + static_cast<std::size_t>(channel);
  }
};

// The same in device memory, and what came out.
struct DeviceRows {
  const Rows& rows;
  kvferry_test::DeviceArray<__half> q;
  kvferry_test::DeviceArray<__half> values;  // of all blocks
  kvferry_test::DeviceArray<std::uint8_t*> blocks;
  kvferry_test::DeviceArray<std::uint32_t> positions;
  kvferry_test::DeviceArray<float2> cos_sin;

  explicit DeviceRows(const Rows& r)
      : rows(r),
        q(static_cast<std::size_t>(r.count) * r.shape.heads * r.shape.head_dim),
        values(r.block_values() * r.block_count),
        blocks(bases(r, values.data())),
        positions(r.positions),
        cos_sin(table(r)) {}

  kvferry::kernels::CacheRows cache() const {
    const std::size_t tile = std::size_t{kTokens} * rows.shape.head_dim * sizeof(__half);
    const std::size_t key = tile * rows.shape.kv_heads * 2 * kLayer;
    return {blocks.data(), positions.data(), key, key + tile * rows.shape.kv_heads,
            rows.shape.head_dim};
  }
  kvferry::kernels::RopeRotation rotation() const {
    return {cos_sin.data(), rows.shape.rotated, rows.shape.is_split};
  }

  // How many F16 values of Q and of all blocks are not, bit for bit, those of the same arithmetic,
  // or not untouched; `value(row, channel)` is what goes into the rotation.
  template <typename Value>
  std::size_t different(const Rows& batch, Value value) const {
    std::vector<std::uint16_t> expected_q(
        static_cast<std::size_t>(batch.count) * batch.shape.heads * batch.shape.head_dim, 0xffff);
    std::vector<std::uint16_t> expected(batch.block_values() * batch.block_count, 0xffff);
    for_each(
        batch,
        [&](int row, int channel, std::uint16_t* to_q, std::size_t at) {
          const float v = rotated<float>(
              batch, row, channel, value,
              [](float x, float c, float y, float s) { return std::fma(x, c, y * s); });
          const std::uint16_t bits = half_bits(v);
          (to_q != nullptr ? *to_q : expected[at]) = bits;
        },
        expected_q);
    return differing(expected_q, q.values()) + differing(expected, values.values());
  }

  // The worst error of a written value, relative to its size or to 1 where that is larger.
  template <typename Value>
  double worst(const Rows& batch, Value value) const {
    const std::vector<__half> got_q = q.values(), got = values.values();
    std::vector<std::uint16_t> order(got_q.size());
    double result = 0;
    for_each(
        batch,
        [&](int row, int channel, std::uint16_t* to_q, std::size_t at) {
          const double v =
              rotated<double>(batch, row, channel, value,
                              [](double x, double c, double y, double s) { return x * c + y * s; });
          const float f = __half2float(to_q != nullptr ? got_q[to_q - order.data()] : got[at]);
          const double error = std::fabs(f - v) / std::fmax(1.0, std::fabs(v));
          if (!(error <= result)) result = error;
        },
        order);
    return result;
  }

 private:
  static std::vector<std::uint8_t*> bases(const Rows& r, __half* first) {
    std::vector<std::uint8_t*> result;
    for (const int block : r.blocks) {
      result.push_back(reinterpret_cast<std::uint8_t*>(first + r.block_values() * block));
    }
    return result;
  }
  // NaN after the last, so that it is never empty.
  static std::vector<float2> table(const Rows& r) {
    std::vector<float2> result;
    for (std::size_t i = 0; i < r.cosines.size(); ++i) {
      result.push_back(make_float2(r.cosines[i], r.sines[i]));
    }
    result.push_back(make_float2(NAN, NAN));
    return result;
  }

  template <typename T, typename Value, typename Combine>
  static T rotated(const Rows& batch, int row, int channel, Value value, Combine combine) {
    const Shape& s = batch.shape;
    const int head = channel / s.head_dim, c = channel % s.head_dim;
    const T x = value(row, channel);
    if (head >= s.heads + s.kv_heads || c >= s.rotated) return x;
    const T y = value(row, head * s.head_dim + s.partner(c));
    const std::size_t at = batch.positions[row] * static_cast<std::size_t>(s.rotated / 2) +
                           static_cast<std::size_t>(s.frequency(c));
    const T sine = batch.sines[at];
    return combine(x, batch.cosines[at], y, s.is_first(c) ? -sine : sine);
  }

  // body(row, channel, place in Q or null, place in the blocks).
  template <typename Body>
  static void for_each(const Rows& batch, Body body, std::vector<std::uint16_t>& q_order) {
    const Shape& s = batch.shape;
    for (int row = 0; row < batch.count; ++row) {
      for (int channel = 0; channel < s.columns(); ++channel) {
        const int head = channel / s.head_dim, c = channel % s.head_dim;
        if (head < s.heads) {
          const std::size_t at = static_cast<std::size_t>(row) * s.heads * s.head_dim +
                                 static_cast<std::size_t>(channel);
          body(row, channel, q_order.data() + at, 0);
        } else {
          const int plane = head >= s.heads + s.kv_heads ? 1 : 0;
          body(row, channel, nullptr,
               batch.place(row, plane, head - s.heads - plane * s.kv_heads, c));
        }
      }
    }
  }

  static std::size_t differing(const std::vector<std::uint16_t>& expected,
                               const std::vector<__half>& got) {
    std::size_t count = expected.size() == got.size() ? 0 : 1;
    for (std::size_t i = 0; i < expected.size() && i < got.size(); ++i) {
      count += std::memcmp(&expected[i], &got[i], 2) != 0;
    }
    return count;
  }
};

}  // namespace rope_rows
