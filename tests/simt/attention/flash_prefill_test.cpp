#include <algorithm>
#include <cmath>
#include <cstdint>
#include <string>
#include <vector>

#include <catch2/catch.hpp>

#include "cache_fixture.hpp"
#include "device_array.hpp"
#include "flash_prefill_model.hpp"
#include "half_arithmetic.hpp"
#include "kernels/attention.cuh"
#include "reference.hpp"
#include "simt/launch.hpp"

namespace kvferry::test {
namespace {

// Rows [begin, begin + q rows) of a chunk, [rows, heads, head_dim].
std::vector<std::uint16_t> run(const Heads& heads, const DeviceCache& cache,
                               const std::vector<double>& q, std::uint32_t begin) {
  const std::uint32_t rows = static_cast<std::uint32_t>(q.size() / heads.row());
  const DeviceArray<std::uint16_t> device_q(to_bits(q)), out(q.size());
  const kernels::FlashPrefillParams params = {cache.shape(heads),
                                              reinterpret_cast<const __half*>(device_q.data()),
                                              reinterpret_cast<__half*>(out.data()),
                                              cache.table(),
                                              rows,
                                              begin};
  const kernels::LaunchStatus status = kernels::launch_flash_prefill(params, nullptr);
  INFO((status.ok() ? std::string() : status.error().message));
  REQUIRE(status.ok());
  REQUIRE(simt::take_errors() == "");
  return out.values();
}

// Compares with the model, bit by bit, and with F64. Returns how many values are wrong.
int count_errors(const Heads& heads, const Tokens& tokens, const std::vector<double>& q,
                 std::uint32_t begin, const std::vector<std::uint16_t>& out, bool with_reference) {
  int errors = 0;
  double norm = 0;
  for (std::size_t i = 0; i * heads.head_dim < q.size(); ++i) {
    const std::uint32_t position = begin + static_cast<std::uint32_t>(i / heads.heads());
    const std::uint32_t kv_head = static_cast<std::uint32_t>(i % heads.heads()) / heads.group;
    const double* query = &q[i * heads.head_dim];
    const std::vector<double> model = flash_prefill_model(heads, tokens, kv_head, position, query);
    ReferenceHead reference;
    if (with_reference) reference = reference_head(heads, tokens, kv_head, position, query);
    for (std::uint32_t d = 0; d < heads.head_dim; ++d) {
      const std::uint16_t bits = out[i * heads.head_dim + d];
      // A product's sign may be lost: zeros are alike.
      if (bits != half_bits(model[d]) && !(half_value(bits) == 0 && model[d] == 0)) ++errors;
      norm += std::fabs(half_value(bits));
      if (!with_reference) continue;
      const ErrorModel error = {(heads.head_dim + 1) * kFloatRoundoff, std::ldexp(1.0, -25),
                                (position + 100) * kFloatRoundoff};
      const double difference = std::fabs(half_value(bits) - reference.out[d]);
      if (!(difference <= tolerance(error, reference, d))) ++errors;
    }
  }
  if (!(norm > 0)) ++errors;
  return errors;
}

}  // namespace

TEST_CASE("flash_prefill has the bits of its model and is near to F64") {
  const std::uint32_t rows = GENERATE(1u, 7u, 32u, 64u, 65u, 130u);
  const std::uint32_t begin = GENERATE(0u, 1u, 31u, 32u, 33u, 255u, 500u);
  const std::uint32_t group = GENERATE(1u, 3u, 4u, 8u);
  const std::uint32_t head_dim = GENERATE(64u, 128u);
  const Heads heads = {group, group < 4 && rows < 64 ? 2u : 1u, head_dim};
  CAPTURE(rows, begin, group, head_dim);
  Random random(rows + 1000 * begin + group);
  const Tokens tokens = random_tokens(random, heads, begin + rows);
  const DeviceCache cache(heads, {tokens}, KvPool::blocks_for(tokens.count), random);
  const std::vector<double> q = random_halves(random, rows * heads.row(), 2.0);
  simt::take_statistics();
  const std::vector<std::uint16_t> out = run(heads, cache, q, begin);
  const simt::Statistics statistics = simt::take_statistics();
  CHECK(statistics.matrix_loads > 0);
  CHECK(statistics.bank_conflicts == 0);
  CHECK(count_errors(heads, tokens, q, begin, out, rows * group <= 128) == 0);
}

TEST_CASE("flash_prefill of groups that fill tiles unevenly") {
  const std::uint32_t group = GENERATE(5u, 7u, 71u);
  const std::uint32_t head_dim = GENERATE(64u, 128u);
  const std::uint32_t begin = 40, rows = 15;
  const Heads heads = {group, 2, head_dim};
  CAPTURE(group, head_dim);
  Random random(group);
  const Tokens tokens = random_tokens(random, heads, begin + rows);
  const DeviceCache cache(heads, {tokens}, KvPool::blocks_for(tokens.count), random);
  const std::vector<double> q = random_halves(random, rows * heads.row(), 2.0);
  CHECK(count_errors(heads, tokens, q, begin, run(heads, cache, q, begin), true) == 0);
}

TEST_CASE("flash_prefill keeps keys that are not numbers from the rows before them") {
  const Heads heads = {3, 1, 64};
  const std::uint32_t rows = 20, broken = 13;
  Random random(12);
  Tokens tokens = random_tokens(random, heads, rows);
  const std::vector<double> q = random_halves(random, rows * heads.row(), 2.0);
  std::fill_n(&tokens.keys[broken * heads.head_dim], heads.head_dim, std::nan(""));
  const DeviceCache cache(heads, {tokens}, KvPool::blocks_for(rows), random);
  const std::vector<std::uint16_t> out = run(heads, cache, q, 0);
  const std::size_t before = broken * heads.row();
  CHECK(count_errors(heads, tokens, {q.begin(), q.begin() + static_cast<std::ptrdiff_t>(before)}, 0,
                     out, true) == 0);
  CHECK(std::isnan(half_value(out[before])));
}

TEST_CASE("flash_prefill gives a row the same bits in any chunk") {
  const std::uint32_t head_dim = GENERATE(64u, 128u);
  const std::uint32_t group = GENERATE(1u, 3u);
  const Heads heads = {group, 2, head_dim};
  Random random(7);
  const std::uint32_t count = 150;
  const Tokens tokens = random_tokens(random, heads, count);
  const DeviceCache cache(heads, {tokens}, KvPool::blocks_for(count), random);
  const std::vector<double> q = random_halves(random, count * heads.row(), 2.0);
  const std::vector<std::uint16_t> whole = run(heads, cache, q, 0);
  for (const std::vector<std::uint32_t>& ends :
       {std::vector<std::uint32_t>{1, 8, 40, 104, 150}, {64, 128, 150}, {33, 34, 97, 150}}) {
    std::uint32_t begin = 0;
    for (const std::uint32_t end : ends) {
      const auto first = static_cast<std::ptrdiff_t>(begin * heads.row());
      const auto last = static_cast<std::ptrdiff_t>(end * heads.row());
      const std::vector<std::uint16_t> part =
          run(heads, cache, {q.begin() + first, q.begin() + last}, begin);
      CHECK(std::equal(part.begin(), part.end(), whole.begin() + first));
      begin = end;
    }
  }
}

TEST_CASE("flash_prefill with extreme scores") {
  const std::uint32_t head_dim = GENERATE(64u, 128u);
  const Heads heads = {2, 1, head_dim};
  const std::uint32_t begin = 70, rows = 40;
  Random random(11);
  Tokens tokens = random_tokens(random, heads, begin + rows, 2.0, 4.0);
  std::vector<double> q = random_halves(random, rows * heads.row(), 2.0);
  const auto check = [&] {
    const DeviceCache cache(heads, {tokens}, KvPool::blocks_for(tokens.count), random);
    const std::vector<std::uint16_t> out = run(heads, cache, q, begin);
    CHECK(count_errors(heads, tokens, q, begin, out, false) == 0);
    return out;
  };

  SECTION("all equal, of the largest values there are") {
    std::fill(q.begin(), q.end(), 0.0);
    std::fill(tokens.values.begin(), tokens.values.end(), 65504.0);
    const std::vector<std::uint16_t> out = check();
    CHECK(std::all_of(out.begin(), out.end(), [](std::uint16_t v) { return v == 0x7bff; }));
  }
  SECTION("one huge") {
    const std::uint32_t huge = 83;
    std::fill(q.begin(), q.end(), 60000.0);
    std::fill_n(&tokens.keys[huge * head_dim], head_dim, 65504.0);
    const std::vector<std::uint16_t> out = check();
    for (std::uint32_t row = huge - begin; row < rows; ++row) {
      for (std::size_t i = 0; i < heads.row(); ++i) {
        CHECK(half_value(out[row * heads.row() + i]) ==
              tokens.values[huge * head_dim + i % head_dim]);
      }
    }
  }
  SECTION("all far below the first") {
    std::fill(q.begin(), q.end(), 1.0);
    std::fill(tokens.keys.begin(), tokens.keys.end(), -30000.0);
    std::fill_n(tokens.keys.begin(), head_dim, 30000.0);
    const std::vector<std::uint16_t> out = check();
    for (std::size_t i = 0; i < out.size(); ++i) {
      CHECK(half_value(out[i]) == tokens.values[i % head_dim]);
    }
  }
  SECTION("spread from one end of the range to the other") {
    for (double& k : tokens.keys) k = rounded_to_half(k * 30000.0);
    check();
  }
}

TEST_CASE("flash_prefill names what it does not take") {
  const Heads heads = {2, 2, 64};
  Random random(1);
  const Tokens tokens = random_tokens(random, heads, 8);
  const DeviceCache cache(heads, {tokens}, 1, random);
  const DeviceArray<std::uint16_t> q(8 * heads.row()), out(8 * heads.row());
  const kernels::FlashPrefillParams good = {cache.shape(heads),
                                            reinterpret_cast<const __half*>(q.data()),
                                            reinterpret_cast<__half*>(out.data()),
                                            cache.table(),
                                            8,
                                            0};
  const auto refuses = [&](const std::string& text, auto change) {
    kernels::FlashPrefillParams params = good;
    change(params);
    simt::take_statistics();
    const kernels::LaunchStatus status = kernels::launch_flash_prefill(params, nullptr);
    INFO(text);
    REQUIRE(!status.ok());
    CHECK(status.error().message.find(text) != std::string::npos);
    CHECK(simt::take_statistics().launches == 0);
  };
  using Params = kernels::FlashPrefillParams;
  refuses("heads of 96 values", [](Params& p) { p.shape.head_dim = 96; });
  refuses("4 query heads cannot share 3", [](Params& p) { p.shape.kv_heads = 3; });
  refuses("cannot share 0", [](Params& p) { p.shape.kv_heads = 0; });
  refuses("0 heads", [](Params& p) { p.shape.heads = 0; });
  refuses("2000 heads", [](Params& p) { p.shape.heads = 2000; });
  refuses("scale", [](Params& p) { p.shape.scale = 0.0f; });
  refuses("scale", [](Params& p) { p.shape.scale = NAN; });
  refuses("scale", [](Params& p) { p.shape.scale = INFINITY; });
  refuses("multiples of 16", [](Params& p) { p.shape.key_offset += 8; });
  refuses("multiples of 16", [](Params& p) { p.shape.value_offset += 4; });
  refuses("0 rows", [](Params& p) { p.rows = 0; });
  refuses("rows from position", [](Params& p) { p.begin = 0xffffffff; });
  refuses("rows from position", [](Params& p) { p.rows = 0xffffffff; });
  refuses("q is null", [](Params& p) { p.q = nullptr; });
  refuses("out is null or not aligned to 4", [](Params& p) { p.out += 1; });
  refuses("the block table is null", [](Params& p) { p.blocks = nullptr; });
}

}  // namespace kvferry::test
