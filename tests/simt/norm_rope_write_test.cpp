// norm_rope_write: the same bits as its arithmetic in plain loops, and near to it in double.
#include "src/compute/ampere/norm_rope_write.cu"

#include <cmath>
#include <random>
#include <vector>

#include <catch2/catch.hpp>

#include "rope_rows.hpp"

using namespace kvferry::kernels;
using kvferry_test::DeviceArray;
using rope_rows::Shape;

namespace {

std::vector<float> random_floats(std::size_t count, std::mt19937& engine, float size) {
  std::normal_distribution<float> normal(0.0f, size);
  std::vector<float> values(count);
  for (float& v : values) v = normal(engine);
  return values;
}

struct Inputs {
  Shape shape;
  std::vector<float> qkv, q_weight, k_weight;
  float epsilon;

  const float* head_of(int row, int channel) const {
    return qkv.data() + static_cast<std::size_t>(row) * shape.columns() +
           channel / shape.head_dim * shape.head_dim;
  }
  const std::vector<float>* weight_of(int channel) const {
    const int head = channel / shape.head_dim;
    if (head >= shape.heads + shape.kv_heads) return nullptr;
    return head >= shape.heads ? &k_weight : &q_weight;
  }

  float plain(int row, int channel) const {
    const float* head = head_of(row, channel);
    const int c = channel % shape.head_dim;
    const std::vector<float>* weight = weight_of(channel);
    if (weight == nullptr) return head[c];
    // Lane l has pairs l, l + 32, ….
    float lanes[32] = {};
    int pair = 0;
    for (int first = 0; first < shape.head_dim; ++first) {
      const int second = shape.partner(first);
      if (second < first) continue;
      float& sum = lanes[pair % 32];
      sum = std::fma(head[first], head[first], sum);
      if (second != first) {
        sum = std::fma(head[second], head[second], sum);
      } else {
        ++first;  // channels past the rotated ones go two by two
        sum = std::fma(head[first], head[first], sum);
      }
      ++pair;
    }
    for (int count = 16; count > 0; count /= 2) {
      for (int lane = 0; lane < count; ++lane) lanes[lane] = lanes[2 * lane] + lanes[2 * lane + 1];
    }
    const float mean = lanes[0] / static_cast<float>(shape.head_dim);
    const float factor = 1.0f / std::sqrt(mean + epsilon);
    return head[c] * factor * (*weight)[c];
  }

  double exact(int row, int channel) const {
    const float* head = head_of(row, channel);
    const int c = channel % shape.head_dim;
    const std::vector<float>* weight = weight_of(channel);
    if (weight == nullptr) return head[c];
    double sum = 0;
    for (int i = 0; i < shape.head_dim; ++i) sum += static_cast<double>(head[i]) * head[i];
    return head[c] / std::sqrt(sum / shape.head_dim + epsilon) * (*weight)[c];
  }
};

}  // namespace

TEST_CASE("heads are normed, rotated and written") {
  const Shape shapes[] = {{16, 8, 128, 128, true}, {2, 1, 64, 64, true}, {3, 1, 64, 32, false},
                          {4, 2, 80, 80, true},    {1, 1, 2, 2, false},  {5, 2, 96, 48, true},
                          {2, 1, 256, 256, true},  {2, 1, 36, 0, false}};
  std::mt19937 engine(71);
  for (const Shape& shape : shapes) {
    for (const int rows : {1, 37, 70}) {
      CAPTURE(shape.heads, shape.head_dim, shape.rotated, shape.is_split, rows);
      const rope_rows::Rows batch(shape, rows, 72);
      const auto head_dim = static_cast<std::size_t>(shape.head_dim);
      Inputs in{
          shape, random_floats(static_cast<std::size_t>(rows) * shape.columns(), engine, 3.0f),
          random_floats(head_dim, engine, 1.0f), random_floats(head_dim, engine, 1.0f), 1e-6f};
      for (int c = 0; c < shape.head_dim; ++c) in.qkv[static_cast<std::size_t>(c)] = 0.0f;
      const DeviceArray<float> qkv(in.qkv), q_weight(in.q_weight), k_weight(in.k_weight);
      const rope_rows::DeviceRows to(batch);
      const NormRopeWriteParams params = {qkv.data(),  q_weight.data(), k_weight.data(), in.epsilon,
                                          to.q.data(), to.cache(),      to.rotation(),   rows,
                                          shape.heads, shape.kv_heads};
      REQUIRE(launch_norm_rope_write(params, 0).ok());
      CHECK(to.different(batch, [&](int row, int c) { return in.plain(row, c); }) == 0);
      // 14 roundings of the sum of squares at most, and 5 of what follows.
      CHECK(to.worst(batch, [&](int row, int c) { return in.exact(row, c); }) <=
            1.0 / 2048 + 20 * 8 * 6e-8);
    }
  }
}

TEST_CASE("numbers beyond F16 become its largest, NaN stays") {
  const Shape shape{1, 1, 64, 64, false};
  const rope_rows::Rows batch(shape, 2, 74);
  std::mt19937 engine(75);
  Inputs in{shape, random_floats(static_cast<std::size_t>(2 * shape.columns()), engine, 1.0f),
            random_floats(64, engine, 1.0f), random_floats(64, engine, 1.0f), 1e-6f};
  in.q_weight[3] = 1e7f;
  const float values[] = {1e6f, -1e6f, 65519.0f, 65520.0f, INFINITY, -INFINITY, NAN};
  for (std::size_t i = 0; i < 7; ++i) in.qkv[128 + i] = values[i];  // V of the first row
  const DeviceArray<float> qkv(in.qkv), q_weight(in.q_weight), k_weight(in.k_weight);
  const rope_rows::DeviceRows to(batch);
  const NormRopeWriteParams params = {qkv.data(),
                                      q_weight.data(),
                                      k_weight.data(),
                                      in.epsilon,
                                      to.q.data(),
                                      to.cache(),
                                      to.rotation(),
                                      2,
                                      1,
                                      1};
  REQUIRE(launch_norm_rope_write(params, nullptr).ok());
  CHECK(to.different(batch, [&](int row, int c) { return in.plain(row, c); }) == 0);
}

TEST_CASE("heads that cannot be are refused") {
  const Shape shape{2, 1, 64, 64, true};
  const rope_rows::Rows batch(shape, 3, 73);
  const rope_rows::DeviceRows to(batch);
  const DeviceArray<float> x(static_cast<std::size_t>(3 * shape.columns()));
  const NormRopeWriteParams good = {x.data(),   x.data(),      x.data(), 1e-6f, to.q.data(),
                                    to.cache(), to.rotation(), 3,        2,     1};
  const auto refused = [&](void (*change)(NormRopeWriteParams&)) {
    NormRopeWriteParams params = good;
    change(params);
    const LaunchStatus status = launch_norm_rope_write(params, 0);
    return !status.ok() && status.error().code == kvferry::ErrorCode::kInvalidArgument;
  };
  CHECK(refused([](NormRopeWriteParams& p) { p.rows = 0; }));
  CHECK(refused([](NormRopeWriteParams& p) { p.heads = 0; }));
  CHECK(refused([](NormRopeWriteParams& p) { p.heads = 2147483647; }));
  CHECK(refused([](NormRopeWriteParams& p) { p.kv_heads = -1; }));
  CHECK(refused([](NormRopeWriteParams& p) { p.cache.head_dim = 258; }));
  CHECK(refused([](NormRopeWriteParams& p) { p.cache.head_dim = -2147483647 - 1; }));
  CHECK(refused([](NormRopeWriteParams& p) { p.cache.head_dim = 63; }));
  CHECK(refused([](NormRopeWriteParams& p) { p.rope.rotated = 128; }));
  CHECK(refused([](NormRopeWriteParams& p) { p.qkv = nullptr; }));
  CHECK(refused([](NormRopeWriteParams& p) { p.q_weight = nullptr; }));
  CHECK(refused([](NormRopeWriteParams& p) { p.k_weight = nullptr; }));
  CHECK(refused([](NormRopeWriteParams& p) { p.q = nullptr; }));
  CHECK(refused([](NormRopeWriteParams& p) { p.cache.blocks = nullptr; }));
}
