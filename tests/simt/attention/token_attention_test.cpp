#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <string>
#include <vector>

#include <catch2/catch.hpp>

#include "cache_fixture.hpp"
#include "device_array.hpp"
#include "flash_prefill_model.hpp"
#include "kernels/attention.cuh"
#include "key_score_model.hpp"
#include "reference.hpp"
#include "simt/launch.hpp"

namespace kvferry::test {
namespace {

struct Chunk {
  Heads heads;
  std::uint32_t begin;
  std::uint32_t rows;
  std::uint32_t queries;
  Tokens tokens;
  std::vector<double> q;  // [rows, heads, head_dim], F16 numbers

  Chunk(const Heads& h, std::uint32_t b, std::uint32_t r, std::uint32_t n, Random& random)
      : heads(h),
        begin(b),
        rows(r),
        queries(n),
        tokens(random_tokens(random, h, b + r)),
        q(random_halves(random, r * h.row(), 2.0)) {}

  std::uint32_t used_queries() const { return std::min(queries, rows); }
  const double* query(std::uint32_t row, std::uint32_t head) const {
    return &q[row * heads.row() + std::size_t{head} * heads.head_dim];
  }

  template <typename Query>
  std::vector<float> run(kernels::QueryType type, const std::vector<Query>& host_q,
                         Random& random) const {
    const DeviceCache cache(heads, {tokens}, KvPool::blocks_for(tokens.count), random);
    const DeviceArray<Query> device_q(host_q);
    const DeviceArray<float> out(rows);
    kernels::TokenAttentionParams params = {cache.shape(heads),
                                            device_q.data(),
                                            out.data(),
                                            cache.table(),
                                            rows,
                                            begin,
                                            queries,
                                            nullptr,
                                            0};
    params.workspace_bytes = kernels::token_attention_workspace(params);
    const DeviceArray<std::uint8_t> workspace(params.workspace_bytes);
    params.workspace = workspace.data();
    const kernels::LaunchStatus status = kernels::launch_token_attention(params, type, nullptr);
    INFO((status.ok() ? std::string() : status.error().message));
    REQUIRE(status.ok());
    REQUIRE(simt::take_errors() == "");
    return out.values();
  }
  std::vector<float> run(kernels::QueryType type, Random& random) const {
    if (type == kernels::QueryType::kF16) return run(type, to_bits(q), random);
    return run(type, std::vector<float>(q.begin(), q.end()), random);
  }

  // The kernels' arithmetic: [rows].
  std::vector<float> model() const {
    const std::uint32_t first = rows - used_queries(), pairs = used_queries() * heads.group;
    std::vector<float> total(rows, 0.0f);
    for (std::uint32_t slice = 0; slice * 32 < pairs; ++slice) {
      for (std::uint32_t kv_head = 0; kv_head < heads.kv_heads; ++kv_head) {
        std::vector<float> squares(rows, 0.0f);
        for (std::uint32_t pair = 32 * slice; pair < std::min(pairs, 32 * slice + 32); ++pair) {
          const std::uint32_t row = first + pair / heads.group;
          const std::uint32_t head = kv_head * heads.group + pair % heads.group;
          const std::vector<float> weights = softmax(kv_head, row, head);
          for (std::uint32_t r = 0; r <= row; ++r) {
            squares[r] = std::fma(weights[begin + r], weights[begin + r], squares[r]);
          }
        }
        for (std::uint32_t r = 0; r < rows; ++r) total[r] += squares[r];
      }
    }
    for (std::uint32_t r = 0; r < rows; ++r) {
      total[r] /= static_cast<float>((rows - std::max(r, first)) * heads.heads());
    }
    return total;
  }

  // In F64: [rows].
  std::vector<double> reference(double& products) const {
    const std::uint32_t first = rows - used_queries();
    std::vector<double> total(rows, 0.0);
    for (std::uint32_t row = first; row < rows; ++row) {
      for (std::uint32_t head = 0; head < heads.heads(); ++head) {
        const ReferenceHead r =
            reference_head(heads, tokens, head / heads.group, begin + row, query(row, head));
        products = std::max(products, r.products);
        for (std::uint32_t t = 0; t <= row; ++t) {
          total[t] += r.weights[begin + t] * r.weights[begin + t];
        }
      }
    }
    for (std::uint32_t t = 0; t < rows; ++t)
      total[t] /= (rows - std::max(t, first)) * heads.heads();
    return total;
  }

 private:
  // [begin + row + 1]
  std::vector<float> softmax(std::uint32_t kv_head, std::uint32_t row, std::uint32_t head) const {
    const std::vector<float> query_values(query(row, head), query(row, head) + heads.head_dim);
    const KeyScoreModel query_model(query_values.data(), heads.head_dim);
    std::vector<float> scores;
    for (std::uint32_t t = 0; t <= begin + row; ++t) {
      scores.push_back(query_model.score(tokens.key(heads, kv_head, t)));
    }
    const float largest = *std::max_element(scores.begin(), scores.end());
    float sum = 0.0f;
    for (std::size_t partition = 0; partition < scores.size(); partition += 128) {
      const std::size_t end = std::min(scores.size(), partition + 128);
      const float maximum = *std::max_element(&scores[partition], scores.data() + end);
      std::vector<float> lanes(32, 0.0f);
      for (std::size_t t = partition; t < end; ++t) {
        lanes[(t - partition) / 4] += power_of_two(scores[t] - maximum);
      }
      sum = std::fma(butterfly_sum(lanes), power_of_two(maximum - largest), sum);
    }
    const float inverse = 1.0f / sum;
    for (float& s : scores) s = power_of_two(s - largest) * inverse;
    return scores;
  }
};

void check(const Chunk& chunk, kernels::QueryType type, Random& random) {
  const std::vector<float> out = chunk.run(type, random), model = chunk.model();
  CHECK(std::memcmp(out.data(), model.data(), out.size() * sizeof(float)) == 0);
  double products = 0;
  const std::vector<double> reference = chunk.reference(products);
  // Of weights as in split_attention, squared.
  const double relative = std::exp(4 * 9 * kHalfRoundoff * products) - 1 + 1e-5 * (1 + products);
  int errors = 0;
  for (std::size_t i = 0; i < out.size(); ++i) {
    errors += !(std::fabs(static_cast<double>(out[i]) - reference[i]) <= relative * reference[i]);
  }
  CHECK(errors == 0);
}

}  // namespace

TEST_CASE("token_attention has the bits of its model and is near to F64") {
  const std::uint32_t rows = GENERATE(1u, 7u, 32u, 65u, 130u);
  const std::uint32_t begin = GENERATE(0u, 1u, 33u, 255u);
  const std::uint32_t group = GENERATE(1u, 3u, 8u);
  const std::uint32_t head_dim = GENERATE(64u, 128u);
  CAPTURE(rows, begin, group, head_dim);
  Random random(rows + 1000 * begin + group);
  const Heads heads = {group, group < 4 ? 2u : 1u, head_dim};
  const Chunk chunk(heads, begin, rows, 5, random);
  check(chunk, kernels::QueryType::kF16, random);
  check(chunk, kernels::QueryType::kF32, random);
}

TEST_CASE("token_attention of any number of queries") {
  const std::uint32_t queries = GENERATE(1u, 31u, 64u, 1000u);
  CAPTURE(queries);
  Random random(queries);
  check(Chunk({2, 1, 64}, 40, 70, queries, random), kernels::QueryType::kF16, random);
}

TEST_CASE("token_attention when queries see nothing of a partition, far below zero") {
  Random random(3);
  Chunk chunk({1, 1, 64}, 120, 20, 20, random);
  std::fill(chunk.q.begin(), chunk.q.end(), 16.0);
  std::fill(chunk.tokens.keys.begin(), chunk.tokens.keys.end(), -16.0);
  check(chunk, kernels::QueryType::kF32, random);
}

TEST_CASE("token_attention names what it does not take") {
  const Heads heads = {2, 2, 64};
  Random random(1);
  const Tokens tokens = random_tokens(random, heads, 8);
  const DeviceCache cache(heads, {tokens}, 1, random);
  const DeviceArray<std::uint16_t> q(8 * heads.row());
  const DeviceArray<float> out(8);
  const DeviceArray<std::uint8_t> workspace(4096);
  using Params = kernels::TokenAttentionParams;
  const Params good = {cache.shape(heads), q.data(), out.data(), cache.table(), 8, 0, 4,
                       workspace.data(),   4096};
  CHECK(kernels::token_attention_workspace(good) > 0);
  simt::take_statistics();
  const auto refuses = [&](const std::string& text, auto change) {
    Params params = good;
    change(params);
    const kernels::LaunchStatus status =
        kernels::launch_token_attention(params, kernels::QueryType::kF16, nullptr);
    INFO(text);
    REQUIRE(!status.ok());
    CHECK(status.error().message.find(text) != std::string::npos);
    CHECK(simt::take_statistics().launches == 0);
  };
  refuses("heads of 63 values", [](Params& p) { p.shape.head_dim = 63; });
  refuses("cannot share 3", [](Params& p) { p.shape.kv_heads = 3; });
  refuses("0 rows", [](Params& p) { p.rows = 0; });
  refuses("no queries", [](Params& p) { p.queries = 0; });
  refuses("queries; at most", [](Params& p) {
    p.rows = 1u << 20;
    p.queries = 1u << 20;
  });
  refuses("q is null or not aligned to 4",
          [](Params& p) { p.q = static_cast<const std::uint8_t*>(p.q) + 2; });
  refuses("out is null", [](Params& p) { p.out = nullptr; });
  refuses("the block table is null", [](Params& p) { p.blocks = nullptr; });
  refuses("the workspace is null", [](Params& p) { p.workspace = nullptr; });
  refuses("bytes; ", [](Params& p) { p.workspace_bytes = 100; });
  Params params = good;
  params.rows = 0;
  CHECK(kernels::token_attention_workspace(params) == 0);
}

}  // namespace kvferry::test
