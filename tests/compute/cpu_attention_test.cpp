// Causal attention over block tables, on every instruction set.
#include "kvferry/compute/cpu/attention.hpp"

#include "cpu_fixture.hpp"

using namespace kvferry;
using namespace cpu_fixture;
using cpu::AttentionQuery;
using cpu::AttentionShape;

namespace {

// The K and V of one layer of one sequence in blocks of [layers, plane, kv_heads, 32, head_dim],
// and what they hold in F32. Everything else in the blocks is NaN.
struct Cache {
  AttentionShape shape;
  std::vector<std::vector<std::uint8_t>> memory;
  std::vector<const std::uint8_t*> blocks;
  std::vector<float> k, v;  // [tokens, kv_heads, head_dim]

  Cache(std::uint32_t heads, std::uint32_t kv_heads, std::uint32_t head_dim, ElementType type,
        std::uint32_t tokens, std::uint32_t seed) {
    const std::size_t plane = std::size_t{kv_heads} * kBlockTokens * head_dim * size_of(type);
    shape = {heads,     kv_heads, head_dim, type, 1.0f / std::sqrt(static_cast<float>(head_dim)),
             2 * plane, 3 * plane};  // layer 1 of 3
    const std::size_t row = std::size_t{kv_heads} * head_dim;
    k = random_floats(tokens * row, seed, 2.0f);
    v = random_floats(tokens * row, seed + 1);
    for (std::uint32_t t = 0; t < tokens; t += kBlockTokens) {
      memory.emplace_back(6 * plane, std::uint8_t{0xff});
      blocks.push_back(memory.back().data());
    }
    for (std::uint32_t t = 0; t < tokens; ++t) {
      for (std::size_t i = 0; i < row; ++i) {
        put(k[t * row + i], shape.key_offset, t, i);
        put(v[t * row + i], shape.value_offset, t, i);
      }
    }
  }

  void put(float& value, std::size_t offset, std::uint32_t token, std::size_t i) {
    const std::size_t head = i / shape.head_dim, d = i % shape.head_dim;
    const std::size_t at = (head * kBlockTokens + token % kBlockTokens) * shape.head_dim + d;
    std::uint8_t* to = memory[token / kBlockTokens].data() + offset + at * size_of(shape.type);
    if (shape.type == ElementType::kF16) {
      put_half(to, value);
      value = to_float(to_half(value));
    } else if (shape.type == ElementType::kBF16) {
      const BFloat16 b = to_bfloat16(value);
      std::memcpy(to, &b.bits, 2);
      value = to_float(b);
    } else {
      std::memcpy(to, &value, 4);
    }
  }

  std::size_t q_row() const { return std::size_t{shape.heads} * shape.head_dim; }
};

// Softmax weights of one head by their definition, in F64.
std::vector<double> weights_of(const Cache& c, const float* q, std::size_t head,
                               std::uint32_t position) {
  const std::size_t dim = c.shape.head_dim, group = c.shape.heads / c.shape.kv_heads;
  std::vector<double> weights(position + 1);
  double largest = -1e300, total = 0;
  for (std::size_t t = 0; t <= position; ++t) {
    const std::size_t row = (t * c.shape.kv_heads + head / group) * dim;
    for (std::size_t d = 0; d < dim; ++d)
      weights[t] += static_cast<double>(q[head * dim + d]) * static_cast<double>(c.k[row + d]);
    weights[t] *= static_cast<double>(c.shape.scale);
    largest = std::max(largest, weights[t]);
  }
  for (double& w : weights) total += w = std::exp(w - largest);
  for (double& w : weights) w /= total;
  return weights;
}

// Softmax attention by its definition, in F64.
std::vector<double> reference(const Cache& c, const float* q, std::uint32_t position) {
  const std::size_t dim = c.shape.head_dim, group = c.shape.heads / c.shape.kv_heads;
  std::vector<double> out(c.q_row(), 0.0);
  for (std::size_t h = 0; h < c.shape.heads; ++h) {
    const std::vector<double> weights = weights_of(c, q, h, position);
    for (std::size_t t = 0; t <= position; ++t) {
      const std::size_t row = (t * c.shape.kv_heads + h / group) * dim;
      for (std::size_t d = 0; d < dim; ++d)
        out[h * dim + d] += weights[t] * static_cast<double>(c.v[row + d]);
    }
  }
  return out;
}

std::vector<float> attend(const cpu::Kernels& kernels, ThreadPool& pool, const Cache& c,
                          const std::vector<AttentionQuery>& queries, const float* q,
                          cpu::AttentionWorkspace& workspace) {
  std::vector<float> out(queries.size() * c.q_row(), kNaN);
  cpu::attention(kernels, pool, c.shape, queries, q, out.data(), workspace);
  return out;
}

}  // namespace

TEST_CASE("attention equals softmax by its definition") {
  struct Shape {
    std::uint32_t heads, kv_heads, head_dim, tokens;
  };
  const Shape shapes[] = {{9, 3, 64, 300}, {4, 4, 80, 70},  {4, 1, 96, 33}, {8, 2, 128, 257},
                          {6, 3, 2, 40},   {2, 1, 18, 129}, {66, 1, 8, 31}, {3, 1, 250, 5}};
  ThreadPool pool(2);
  for_every_isa([&](const cpu::Kernels& kernels) {
    cpu::AttentionWorkspace workspace;
    for (const Shape& s : shapes) {
      for (const ElementType type : {ElementType::kF16, ElementType::kBF16, ElementType::kF32}) {
        const Cache cache(s.heads, s.kv_heads, s.head_dim, type, s.tokens, s.tokens);
        std::vector<AttentionQuery> queries;
        for (std::uint32_t p = 0; p < s.tokens; ++p) queries.push_back({cache.blocks.data(), p});
        const std::vector<float> q = random_floats(queries.size() * cache.q_row(), 99);
        const std::vector<float> out = attend(kernels, pool, cache, queries, q.data(), workspace);
        double worst = 0;
        for (std::uint32_t p = 0; p < s.tokens; ++p) {
          const std::vector<double> expected = reference(cache, &q[p * cache.q_row()], p);
          for (std::size_t i = 0; i < expected.size(); ++i) {
            const double error =
                std::fabs(expected[i] - static_cast<double>(out[p * cache.q_row() + i]));
            if (!(error <= worst)) worst = error;
          }
        }
        CAPTURE(s.heads, s.kv_heads, s.head_dim, s.tokens, name_of(type));
        CHECK(worst <= 1e-5);
      }
    }
  });
}

TEST_CASE("a query's attention does not depend on the batch or the threads") {
  const std::uint32_t tokens = 299;
  for_every_isa([&](const cpu::Kernels& kernels) {
    for (const ElementType type : {ElementType::kF16, ElementType::kF32}) {
      const Cache cache(6, 2, 64, type, tokens, 17);
      const std::vector<float> q = random_floats(tokens * cache.q_row(), 3);
      std::vector<float> expected;
      for (const std::size_t threads : {1, 2, 3}) {
        ThreadPool pool(threads);
        cpu::AttentionWorkspace workspace;
        for (const std::uint32_t batch : {1u, 2u, 7u, 64u, tokens}) {
          std::vector<float> all;
          for (std::uint32_t first = 0; first < tokens; first += batch) {
            std::vector<AttentionQuery> queries;
            for (std::uint32_t p = first; p < std::min(first + batch, tokens); ++p) {
              queries.push_back({cache.blocks.data(), p});
            }
            const std::vector<float> out =
                attend(kernels, pool, cache, queries, &q[first * cache.q_row()], workspace);
            all.insert(all.end(), out.begin(), out.end());
          }
          if (expected.empty()) expected = all;
          CAPTURE(name_of(type), threads, batch);
          CHECK(same_bits(all.data(), expected.data(), all.size()));
        }
      }
    }
  });
}

TEST_CASE("queries of several sequences in one call") {
  ThreadPool pool(3);
  for_every_isa([&](const cpu::Kernels& kernels) {
    const Cache a(4, 2, 32, ElementType::kF16, 200, 1), b(4, 2, 32, ElementType::kF16, 200, 2);
    cpu::AttentionWorkspace workspace;
    const std::vector<AttentionQuery> queries = {{a.blocks.data(), 199}, {b.blocks.data(), 0},
                                                 {b.blocks.data(), 150}, {a.blocks.data(), 31},
                                                 {a.blocks.data(), 32},  {b.blocks.data(), 127}};
    const std::vector<float> q = random_floats(queries.size() * a.q_row(), 8);
    const std::vector<float> out = attend(kernels, pool, a, queries, q.data(), workspace);
    for (std::size_t i = 0; i < queries.size(); ++i) {
      const std::vector<AttentionQuery> one = {queries[i]};
      const std::vector<float> alone = attend(kernels, pool, a, one, &q[i * a.q_row()], workspace);
      CHECK(same_bits(alone.data(), &out[i * a.q_row()], a.q_row()));
    }
  });
}

TEST_CASE("attention with scores far apart, and with NaN among what is seen") {
  ThreadPool pool(2);
  for_every_isa([&](const cpu::Kernels& kernels) {
    Cache cache(1, 1, 16, ElementType::kF32, 260, 5);
    cpu::AttentionWorkspace workspace;
    std::vector<float> q(16, 1e4f);
    const std::vector<AttentionQuery> queries = {{cache.blocks.data(), 259}};
    const std::vector<float> out = attend(kernels, pool, cache, queries, q.data(), workspace);
    const std::vector<double> expected = reference(cache, q.data(), 259);
    for (std::size_t i = 0; i < 16; ++i) {
      CHECK(std::fabs(expected[i] - static_cast<double>(out[i])) <= 1e-3);
    }
    float nan = kNaN;
    cache.put(nan, cache.shape.key_offset, 130, 3);
    for (const float y : attend(kernels, pool, cache, queries, q.data(), workspace)) {
      CHECK(std::isnan(y));
    }
  });
}

TEST_CASE("how much the last queries look at each token, by its definition") {
  struct Shape {
    std::uint32_t heads, kv_heads, head_dim, tokens, queries, first_token;
  };
  const Shape shapes[] = {{9, 3, 64, 300, 128, 0}, {9, 3, 64, 300, 128, 140},
                          {4, 4, 80, 70, 70, 0},   {8, 2, 128, 257, 5, 250},
                          {6, 3, 2, 40, 1, 0},     {66, 1, 8, 131, 9, 128},
                          {2, 1, 18, 129, 128, 1}};
  for_every_isa([&](const cpu::Kernels& kernels) {
    for (const Shape& s : shapes) {
      for (const ElementType type : {ElementType::kF16, ElementType::kF32}) {
        CAPTURE(s.heads, s.head_dim, s.tokens, s.queries, s.first_token, name_of(type));
        const Cache cache(s.heads, s.kv_heads, s.head_dim, type, s.tokens, s.tokens);
        const std::vector<float> q = random_floats(s.queries * cache.q_row(), 98);
        std::vector<AttentionQuery> queries;
        for (std::uint32_t i = 0; i < s.queries; ++i)
          queries.push_back({cache.blocks.data(), s.tokens - s.queries + i});
        std::vector<double> expected(s.tokens - s.first_token + 1, 0.0), seen(expected.size(), 0.0);
        for (std::uint32_t i = 0; i < s.queries; ++i) {
          for (std::uint32_t h = 0; h < s.heads; ++h) {
            const std::vector<double> weights =
                weights_of(cache, &q[i * cache.q_row()], h, queries[i].position);
            for (std::size_t t = s.first_token; t < weights.size(); ++t) {
              expected[t - s.first_token] += weights[t] * weights[t];
              seen[t - s.first_token] += 1.0;
            }
          }
        }
        std::vector<float> first;
        for (const std::size_t threads : {1, 3}) {
          ThreadPool pool(threads);
          cpu::AttentionWorkspace workspace;
          std::vector<float> out(expected.size(), kNaN);  // one token that nobody sees
          cpu::attention_squares(kernels, pool, cache.shape, queries, q.data(), s.first_token, out,
                                 workspace);
          double worst = 0.0;
          for (std::size_t t = 0; t + 1 < out.size(); ++t) {
            const double value = expected[t] / seen[t];
            const double error = std::fabs(static_cast<double>(out[t]) - value) / value;
            if (!(error <= worst)) worst = error;
          }
          CHECK(worst <= 1e-4);
          CHECK(out.back() == 0.0f);
          if (first.empty()) first = out;
          CHECK(same_bits(out.data(), first.data(), out.size()));
        }
      }
    }
  });
}
