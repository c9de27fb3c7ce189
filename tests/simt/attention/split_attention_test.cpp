#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

#include <catch2/catch.hpp>

#include "cache_fixture.hpp"
#include "device_array.hpp"
#include "kernels/attention.cuh"
#include "reference.hpp"
#include "simt/launch.hpp"
#include "split_attention_model.hpp"

namespace kvferry::test {
namespace {

std::uint32_t bits_of(float value) {
  std::uint32_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  return bits;
}
// Zeros are alike.
bool is_same(float a, float b) {
  return bits_of(a) == bits_of(b) || (a == 0.0f && b == 0.0f);
}

// Whether out is the value, an eighth of which was rounded to F16.
bool is_eighth(float out, double value) {
  return static_cast<double>(out) == 8 * rounded_to_half(value / 8);
}

void require_launched(const kernels::LaunchStatus& status) {
  INFO((status.ok() ? std::string() : status.error().message));
  REQUIRE(status.ok());
  REQUIRE(simt::take_errors() == "");
}

struct Result {
  std::vector<float> values;    // partials
  std::vector<float2> weights;  // partials
  std::vector<float> out;       // [sequences, heads, head_dim]
};

// Sequences that end with their queries; a device of so many multiprocessors.
struct Decode {
  Heads heads;
  std::vector<Tokens> sequences;
  std::vector<float> q;  // [sequences, heads, head_dim]
  std::uint32_t table_blocks;

  Decode(const Heads& h, const std::vector<std::uint32_t>& positions, Random& random)
      : heads(h), table_blocks(0) {
    for (const std::uint32_t position : positions) {
      sequences.push_back(random_tokens(random, heads, position + 1));
      table_blocks = std::max(table_blocks, KvPool::blocks_for(position + 1) + 3);
    }
    for (std::size_t i = 0; i < sequences.size() * heads.row(); ++i) {
      q.push_back(static_cast<float>(uniform(random, 2.0)));
    }
  }
  std::uint32_t position(std::size_t sequence) const { return sequences[sequence].count - 1; }
  std::uint32_t partitions() const { return kernels::attention_partitions(table_blocks) + 1; }
  const float* query(std::size_t sequence, std::uint32_t head) const {
    return &q[sequence * heads.row() + std::size_t{head} * heads.head_dim];
  }

  Result run(std::uint32_t multiprocessors, Random& random) const {
    const DeviceCache cache(heads, sequences, table_blocks, random);
    std::vector<std::uint32_t> host_positions;
    for (std::size_t s = 0; s < sequences.size(); ++s) host_positions.push_back(position(s));
    const DeviceArray<float> device_q(q), out(q.size());
    const DeviceArray<std::uint32_t> positions(host_positions);
    const std::uint32_t count = static_cast<std::uint32_t>(sequences.size());
    const std::size_t slots = std::size_t{count} * partitions() * heads.heads();
    const DeviceArray<float> values(slots * heads.head_dim);
    const DeviceArray<float2> weights(slots);
    const kernels::AttentionPartials partials = {values.data(), weights.data(), partitions()};
    require_launched(kernels::launch_split_attention(
        {cache.shape(heads), device_q.data(), cache.table(), positions.data(), partials, count,
         table_blocks, table_blocks},
        multiprocessors, nullptr));
    require_launched(kernels::launch_combine_attention(
        {{partials, positions.data(), heads.heads(), heads.head_dim}, out.data(), count}, nullptr));
    return {values.values(), weights.values(), out.values()};
  }

  // How many values differ from the model's, or from F64 by more than they may.
  int count_errors(const Result& result, bool with_reference) const {
    int errors = 0;
    for (std::size_t s = 0; s < sequences.size(); ++s) {
      errors += count_sequence_errors(result, s, position(s), with_reference);
      for (std::uint32_t p = position(s) / 128 + 1; p < partitions(); ++p) {
        const std::size_t slot = (s * partitions() + p) * heads.heads();
        errors += bits_of(result.weights[slot].x) != 0xffffffff;  // not written
        errors += bits_of(result.values[slot * heads.head_dim]) != 0xffffffff;
      }
    }
    return errors;
  }
  // The same of one sequence's query at any position.
  int count_sequence_errors(const Result& result, std::size_t s, std::uint32_t at,
                            bool with_reference) const {
    int errors = 0;
    for (std::uint32_t head = 0; head < heads.heads(); ++head) {
      errors += count_head_errors(result, s, head, at, with_reference);
    }
    return errors;
  }

 private:
  int count_head_errors(const Result& result, std::size_t s, std::uint32_t head, std::uint32_t at,
                        bool with_reference) const {
    int errors = 0;
    const std::uint32_t kv_head = head / heads.group, dim = heads.head_dim;
    const KeyScoreModel query_model(query(s, head), dim);
    std::vector<PartitionModel> models;
    for (std::uint32_t p = 0; p <= at / 128; ++p) {
      const std::size_t slot = (s * partitions() + p) * heads.heads() + head;
      models.push_back(partition_model(heads, sequences[s], kv_head, at, p, query_model));
      errors += !is_same(result.weights[slot].x, models.back().maximum);
      errors += !is_same(result.weights[slot].y, models.back().sum);
      for (std::uint32_t d = 0; d < dim; ++d) {
        errors += !is_same(result.values[slot * dim + d], models.back().values[d]);
      }
    }
    const float* out = &result.out[(s * heads.heads() + head) * dim];
    const std::vector<float> combined = combine_model(models);
    for (std::uint32_t d = 0; d < dim; ++d) errors += !is_same(out[d], combined[d]);
    if (!with_reference) return errors;
    const std::vector<double> q64(query(s, head), query(s, head) + dim);
    const ReferenceHead reference = reference_head(heads, sequences[s], kv_head, at, q64.data());
    // q is rounded and chains are of eight terms; weights are eighths.
    const ErrorModel error = {9 * kHalfRoundoff, std::ldexp(1.0, -22), 9 * kHalfRoundoff};
    for (std::uint32_t d = 0; d < dim; ++d) {
      const double difference = std::fabs(static_cast<double>(out[d]) - reference.out[d]);
      errors += !(difference <= tolerance(error, reference, d));
    }
    return errors;
  }
};

}  // namespace

TEST_CASE("split_attention has the bits of its model and is near to F64") {
  const std::uint32_t position = GENERATE(0u, 1u, 30u, 31u, 32u, 127u, 128u, 255u, 499u);
  const std::uint32_t group = GENERATE(1u, 3u, 4u, 8u, 9u);
  const std::uint32_t head_dim = GENERATE(64u, 128u);
  CAPTURE(position, group, head_dim);
  Random random(position + 1000 * group);
  const Decode decode({group, group < 4 ? 2u : 1u, head_dim}, {position}, random);
  CHECK(decode.count_errors(decode.run(1, random), true) == 0);
}

TEST_CASE("split_attention of a batch, on devices of any size") {
  const std::uint32_t head_dim = GENERATE(64u, 128u);
  Random random(5);
  const Decode decode({3, 2, head_dim}, {400, 0, 129, 255}, random);
  const Result first = decode.run(1, random);
  CHECK(decode.count_errors(first, true) == 0);
  for (const std::uint32_t multiprocessors : {2u, 3u, 100u}) {
    const Result other = decode.run(multiprocessors, random);
    CHECK(std::memcmp(first.out.data(), other.out.data(), first.out.size() * sizeof(float)) == 0);
    CHECK(std::memcmp(first.values.data(), other.values.data(),
                      first.values.size() * sizeof(float)) == 0);
  }
}

TEST_CASE("split_attention of several queries of one sequence") {
  const Heads heads = {3, 1, 64};
  const std::uint32_t rows = 6;
  Random random(9);
  Decode decode(heads, {133}, random);
  for (std::size_t i = heads.row(); i < rows * heads.row(); ++i) {
    decode.q.push_back(static_cast<float>(uniform(random, 2.0)));
  }
  const DeviceCache cache(heads, decode.sequences, decode.table_blocks, random);
  const DeviceArray<float> q(decode.q), out(decode.q.size());
  const DeviceArray<std::uint32_t> positions(
      std::vector<std::uint32_t>{128, 129, 130, 131, 132, 5});
  const std::size_t slots = std::size_t{rows} * decode.partitions() * heads.heads();
  const DeviceArray<float> values(slots * heads.head_dim);
  const DeviceArray<float2> weights(slots);
  const kernels::AttentionPartials partials = {values.data(), weights.data(), decode.partitions()};
  require_launched(
      kernels::launch_split_attention({cache.shape(heads), q.data(), cache.table(),
                                       positions.data(), partials, rows, decode.table_blocks, 0},
                                      1, nullptr));
  require_launched(kernels::launch_combine_attention(
      {{partials, positions.data(), heads.heads(), heads.head_dim}, out.data(), rows}, nullptr));
  const Result result = {values.values(), weights.values(), out.values()};
  const std::vector<std::uint32_t> at = positions.values();
  decode.sequences.resize(rows, decode.sequences[0]);
  for (std::size_t row = 0; row < rows; ++row) {
    CHECK(decode.count_sequence_errors(result, row, at[row], true) == 0);
  }
}

TEST_CASE("split_attention, captured once, serves every position") {
  const Heads heads = {2, 2, 64};
  Random random(8);
  Decode decode(heads, {390}, random);
  const DeviceCache cache(heads, decode.sequences, decode.table_blocks, random);
  const DeviceArray<float> q(decode.q), out(heads.row());
  const DeviceArray<std::uint32_t> positions(1);
  const std::size_t slots = std::size_t{decode.partitions()} * heads.heads();
  const DeviceArray<float> values(slots * heads.head_dim);
  const DeviceArray<float2> weights(slots);
  const kernels::AttentionPartials partials = {values.data(), weights.data(), decode.partitions()};

  cudaStream_t stream = nullptr;
  cudaGraph_t graph = nullptr;
  cudaGraphExec_t step = nullptr;
  REQUIRE(cudaStreamCreate(&stream) == cudaSuccess);
  REQUIRE(cudaStreamBeginCapture(stream, cudaStreamCaptureModeRelaxed) == cudaSuccess);
  require_launched(kernels::launch_split_attention(
      {cache.shape(heads), q.data(), cache.table(), positions.data(), partials, 1,
       decode.table_blocks, decode.table_blocks},
      1, stream));
  require_launched(kernels::launch_combine_attention(
      {{partials, positions.data(), heads.heads(), heads.head_dim}, out.data(), 1}, stream));
  REQUIRE(cudaStreamEndCapture(stream, &graph) == cudaSuccess);
  REQUIRE(cudaGraphInstantiate(&step, graph, nullptr, nullptr, 0) == cudaSuccess);
  for (const std::uint32_t position : {0u, 127u, 128u, 390u}) {
    REQUIRE(cudaMemcpy(positions.data(), &position, sizeof position, cudaMemcpyHostToDevice) ==
            cudaSuccess);
    REQUIRE(cudaGraphLaunch(step, stream) == cudaSuccess);
    REQUIRE(cudaStreamSynchronize(stream) == cudaSuccess);
    REQUIRE(simt::take_errors() == "");
    CHECK(decode.count_sequence_errors({values.values(), weights.values(), out.values()}, 0,
                                       position, true) == 0);
  }
  CHECK(cudaGraphExecDestroy(step) == cudaSuccess);
  CHECK(cudaGraphDestroy(graph) == cudaSuccess);
  CHECK(cudaStreamDestroy(stream) == cudaSuccess);
}

TEST_CASE("split_attention with extreme scores") {
  const std::uint32_t head_dim = GENERATE(64u, 128u);
  Random random(6);
  Decode decode({2, 1, head_dim}, {300}, random);
  Tokens& tokens = decode.sequences[0];

  SECTION("all equal, of the largest values there are") {
    std::fill(decode.q.begin(), decode.q.end(), 0.0f);
    std::fill(tokens.values.begin(), tokens.values.end(), 65504.0);
    const Result result = decode.run(1, random);
    CHECK(decode.count_errors(result, true) == 0);
  }
  SECTION("one huge") {
    std::fill(decode.q.begin(), decode.q.end(), 60000.0f);
    std::fill_n(&tokens.keys[200 * head_dim], head_dim, 65504.0);
    const Result result = decode.run(1, random);
    CHECK(decode.count_errors(result, false) == 0);
    for (std::size_t i = 0; i < result.out.size(); ++i) {
      CHECK(is_eighth(result.out[i], tokens.values[200 * head_dim + i % head_dim]));
    }
  }
  SECTION("all far below the first") {
    std::fill(decode.q.begin(), decode.q.end(), 1.0f);
    std::fill(tokens.keys.begin(), tokens.keys.end(), -30000.0);
    std::fill_n(tokens.keys.begin(), head_dim, 30000.0);
    const Result result = decode.run(1, random);
    CHECK(decode.count_errors(result, false) == 0);
    for (std::size_t i = 0; i < result.out.size(); ++i) {
      CHECK(is_eighth(result.out[i], tokens.values[i % head_dim]));
    }
  }
  SECTION("spread from one end of the range to the other") {
    for (double& k : tokens.keys) k = rounded_to_half(k * 30000.0);
    CHECK(decode.count_errors(decode.run(1, random), false) == 0);
  }
  SECTION("queries of subnormal and of great magnitude") {
    for (std::size_t i = 0; i < decode.q.size(); ++i) decode.q[i] *= i < head_dim ? 1e-40f : 1e20f;
    for (double& k : tokens.keys) k = rounded_to_half(k * 6e-8);
    CHECK(decode.count_errors(decode.run(1, random), false) == 0);
  }
}

TEST_CASE("split_attention and combine_attention name what they do not take") {
  const Heads heads = {2, 2, 64};
  Random random(1);
  const Tokens tokens = random_tokens(random, heads, 8);
  const DeviceCache cache(heads, {tokens}, 5, random);
  const DeviceArray<float> q(heads.row()), out(heads.row()), values(2 * heads.row());
  const DeviceArray<float2> weights(2 * heads.heads());
  const DeviceArray<std::uint32_t> positions(std::vector<std::uint32_t>{7});
  const kernels::AttentionPartials partials = {values.data(), weights.data(), 2};
  using Split = kernels::SplitAttentionParams;
  using Combine = kernels::CombineAttentionParams;
  const Split split = {
      cache.shape(heads), q.data(), cache.table(), positions.data(), partials, 1, 5, 5};
  const Combine combine = {{partials, positions.data(), 4, 64}, out.data(), 1};
  const auto expect = [](const kernels::LaunchStatus& status, const std::string& text) {
    INFO(text);
    REQUIRE(!status.ok());
    CHECK(status.error().message.find(text) != std::string::npos);
    CHECK(simt::take_statistics().launches == 0);
  };
  const auto refuses_split = [&](const std::string& text, auto change) {
    Split params = split;
    change(params);
    expect(kernels::launch_split_attention(params, 1, nullptr), text);
  };
  const auto refuses_combine = [&](const std::string& text, auto change) {
    Combine params = combine;
    change(params);
    expect(kernels::launch_combine_attention(params, nullptr), text);
  };
  simt::take_statistics();
  refuses_split("heads of 32 values", [](Split& p) { p.shape.head_dim = 32; });
  refuses_split("cannot share 3", [](Split& p) { p.shape.kv_heads = 3; });
  refuses_split("0 sequences", [](Split& p) { p.sequences = 0; });
  refuses_split("70000 sequences", [](Split& p) { p.sequences = 70000; });
  refuses_split("q is null or not aligned to 8", [](Split& p) { p.q += 1; });
  refuses_split("the block table is null", [](Split& p) { p.blocks = nullptr; });
  refuses_split("positions is null", [](Split& p) { p.positions = nullptr; });
  refuses_split("values is null or not aligned to 16", [](Split& p) { p.partials.values += 2; });
  refuses_split("weights is null", [](Split& p) { p.partials.weights = nullptr; });
  refuses_split("a table of 0 blocks", [](Split& p) { p.table_blocks = 0; });
  refuses_split("blocks is not within", [](Split& p) { p.table_blocks = 0xffffffff; });
  refuses_split("5 blocks cannot lie 4 apart", [](Split& p) { p.table_stride = 4; });
  refuses_split("room for 2 partitions; 9 blocks may have 3",
                [](Split& p) { p.table_blocks = p.table_stride = 9; });
  expect(kernels::launch_split_attention(split, 0, nullptr), "no multiprocessors");
  refuses_combine("0 heads", [](Combine& p) { p.input.heads = 0; });
  refuses_combine("4 heads of 0", [](Combine& p) { p.input.head_dim = 0; });
  refuses_combine("multiple of 4", [](Combine& p) { p.input.head_dim = 62; });
  refuses_combine("0 sequences", [](Combine& p) { p.sequences = 0; });
  refuses_combine("out is null", [](Combine& p) { p.out = nullptr; });
  refuses_combine("positions is null", [](Combine& p) { p.input.positions = nullptr; });
  refuses_combine("no partitions", [](Combine& p) { p.input.partials.partitions = 0; });
}

}  // namespace kvferry::test
