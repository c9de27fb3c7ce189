#include "tests/simt/block_sum.cuh"

#include <vector>

#include <catch2/catch.hpp>

#include "tests/simt/device_array.hpp"

namespace kvferry_test {
namespace {

// Whole numbers, whose sums no order changes.
std::vector<float> numbered(std::size_t count) {
  std::vector<float> values(count);
  for (std::size_t i = 0; i < count; ++i) values[i] = static_cast<float>(i % 1021) - 400.0f;
  return values;
}

TEST_CASE("block_sum sums rows of any length under any schedule") {
  const std::uint64_t seed_before = simt::settings().seed;
  for (unsigned row : {1u, 31u, 128u, 129u, 1000u}) {
    const unsigned blocks = 5;
    const std::vector<float> values = numbered(std::size_t{blocks} * row);
    std::vector<float> expected(blocks, 0.0f);
    for (std::size_t i = 0; i < values.size(); ++i) expected[i / row] += values[i];
    const DeviceArray<float> in(values);
    for (std::uint64_t seed = 1; seed <= 4; ++seed) {
      simt::settings().seed = seed;
      const DeviceArray<float> out(blocks);
      REQUIRE(launch_block_sum({in.data(), out.data(), row}, blocks, nullptr) == cudaSuccess);
      CHECK(out.values() == expected);
    }
  }
  simt::settings().seed = seed_before;
}

}  // namespace
}  // namespace kvferry_test
