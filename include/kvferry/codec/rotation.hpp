// RopeTable: the rotation of K, done and undone in F32 with the same bits on every machine.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "kvferry/model/rope.hpp"

namespace kvferry {

// sin and cos by IEEE additions and multiplications alone, so that no mathematical library or
// instruction set changes a bit. Error below 1e-14 for |angle| < 2^20, growing with the angle.
struct SinCos {
  double sin;
  double cos;
};
SinCos sin_cos(double angle);

// Turns the pairs of each head of a row. cos and sin are [pairs] of the row's position; values past
// 2 * pairs of a head pass.
struct RowRotation {
  const float* cos;
  const float* sin;
  std::size_t pairs;
  std::size_t heads;
  std::size_t head_dim;
  RopeLayout layout;
};

// cos and sin of the positions that were last asked for. attention_scale is not applied: rotating
// keeps whatever scale the rows carry.
class RopeTable {
 public:
  RopeTable(const RopeSpec& rope, std::uint32_t head_dim) : rope_(rope), head_dim_(head_dim) {}

  // Makes row() ready for positions begin .. begin + tokens.
  void prepare(std::uint32_t begin, std::uint32_t tokens);
  // The rotation of position begin + token, valid until the next prepare().
  RowRotation row(std::size_t token, std::uint32_t heads) const;

  // Rows [tokens, heads, head_dim] of positions begin .. begin + tokens, rotated in place.
  void rotate(float* rows, std::uint32_t begin, std::uint32_t tokens, std::uint32_t heads);
  // The inverse.
  void unrotate(float* rows, std::uint32_t begin, std::uint32_t tokens, std::uint32_t heads);

 private:
  RopeSpec rope_;
  std::uint32_t head_dim_;
  std::uint32_t begin_ = 0;
  std::uint32_t tokens_ = 0;
  std::vector<double> cos_within_;  // [kStretch, pairs], of the positions within a stretch
  std::vector<double> sin_within_;
  std::vector<float> cos_;  // [tokens_, pairs]
  std::vector<float> sin_;  // [tokens_, pairs]
};

}  // namespace kvferry
