// ldmatrix and mma against plain loops over matrices of distinct values.
#include <cstdint>
#include <cstring>
#include <vector>

#include <catch2/catch.hpp>
#include <cuda_fp16.h>

#include "kernels/ptx.cuh"
#include "kernels/shared_storage.cuh"
#include "tests/simt/device_array.hpp"
#include "tests/simt/expect_fault.hpp"

namespace kvferry_test {
namespace {

namespace ptx = kvferry::kernels::ptx;

// Words of a fragment as the device holds them: element `index` of matrix row `row`, and the next.
template <typename T>
std::uint32_t word_at(const T* matrix, unsigned columns, unsigned row, unsigned column) {
  std::uint32_t word;
  std::memcpy(&word, matrix + row * columns + column, sizeof word);
  return word;
}

TEST_CASE("mma_s8 is the product of whole numbers") {
  std::vector<std::int8_t> a(16 * 32);
  std::vector<std::int8_t> b(8 * 32);  // [n, k]
  for (unsigned i = 0; i < a.size(); ++i) a[i] = static_cast<std::int8_t>(i * 37 + i / 32 * 11);
  for (unsigned i = 0; i < b.size(); ++i) b[i] = static_cast<std::int8_t>(i * 91 + 7);
  a[5] = -128;
  b[5] = -128;
  const DeviceArray<std::int32_t> out(16 * 8);
  std::int32_t* const c = out.data();
  const std::int8_t* const a_data = a.data();
  const std::int8_t* const b_data = b.data();
  expect_clean(32, [=] {
    const unsigned g = threadIdx.x / 4;
    const unsigned k = threadIdx.x % 4 * 4;
    const std::uint32_t a_words[4] = {word_at(a_data, 32, g, k), word_at(a_data, 32, g + 8, k),
                                      word_at(a_data, 32, g, k + 16),
                                      word_at(a_data, 32, g + 8, k + 16)};
    const std::uint32_t b_words[2] = {word_at(b_data, 32, g, k), word_at(b_data, 32, g, k + 16)};
    std::int32_t sums[4] = {1000, 2000, 3000, 4000};
    ptx::mma_s8(sums, a_words, b_words);
    const unsigned column = threadIdx.x % 4 * 2;
    c[g * 8 + column] = sums[0];
    c[g * 8 + column + 1] = sums[1];
    c[(g + 8) * 8 + column] = sums[2];
    c[(g + 8) * 8 + column + 1] = sums[3];
  });
  const std::vector<std::int32_t> found = out.values();
  for (unsigned m = 0; m < 16; ++m) {
    for (unsigned n = 0; n < 8; ++n) {
      std::int32_t expected = 1000 * static_cast<std::int32_t>(1 + n % 2 + m / 8 * 2);
      for (unsigned k = 0; k < 32; ++k) expected += a[m * 32 + k] * b[n * 32 + k];
      CHECK(found[m * 8 + n] == expected);
    }
  }
}

TEST_CASE("mma_f16 is the product, exact where floats hold it") {
  std::vector<std::uint16_t> a(16 * 16);
  std::vector<std::uint16_t> b(8 * 16);  // [n, k]
  const auto value_of = [](unsigned i) {
    return static_cast<float>(static_cast<int>(i % 61) - 30);
  };
  for (unsigned i = 0; i < a.size(); ++i) a[i] = __half_as_ushort(__float2half(value_of(i * 7)));
  for (unsigned i = 0; i < b.size(); ++i) b[i] = __half_as_ushort(__float2half(value_of(i * 13)));
  const DeviceArray<float> out(16 * 8);
  float* const c = out.data();
  const std::uint16_t* const a_data = a.data();
  const std::uint16_t* const b_data = b.data();
  expect_clean(32, [=] {
    const unsigned g = threadIdx.x / 4;
    const unsigned k = threadIdx.x % 4 * 2;
    const std::uint32_t a_words[4] = {word_at(a_data, 16, g, k), word_at(a_data, 16, g + 8, k),
                                      word_at(a_data, 16, g, k + 8),
                                      word_at(a_data, 16, g + 8, k + 8)};
    const std::uint32_t b_words[2] = {word_at(b_data, 16, g, k), word_at(b_data, 16, g, k + 8)};
    float sums[4] = {0.5f, 1.5f, 2.5f, 3.5f};
    ptx::mma_f16(sums, a_words, b_words);
    for (unsigned i = 0; i < 4; ++i) c[(g + i / 2 * 8) * 8 + k + i % 2] = sums[i];
  });
  const std::vector<float> found = out.values();
  for (unsigned m = 0; m < 16; ++m) {
    for (unsigned n = 0; n < 8; ++n) {
      float expected = 0.5f + static_cast<float>(n % 2 + m / 8 * 2);
      for (unsigned k = 0; k < 16; ++k)
        expected += value_of((m * 16 + k) * 7) * value_of((n * 16 + k) * 13);
      CHECK(found[m * 8 + n] == expected);
    }
  }
}

struct Tiles {
  std::uint16_t rows[32][64];  // a row of 128 bytes
};

// Loads four tiles, the row of lane l at row l, `chunk(l)` times 16 bytes in.
template <bool kIsTransposed, typename Chunk>
void load_tiles(std::uint32_t* out, Chunk chunk) {
  Tiles& tiles = kvferry::kernels::shared_storage<Tiles>();
  const unsigned lane = threadIdx.x;
  for (unsigned i = 0; i < 64; ++i) {
    tiles.rows[lane][i] = static_cast<std::uint16_t>(lane * 64 + i);
  }
  __syncwarp();
  std::uint32_t words[4];
  if (kIsTransposed) {
    ptx::ldmatrix_x4_transposed(words, &tiles.rows[lane][chunk(lane) * 8]);
  } else {
    ptx::ldmatrix_x4(words, &tiles.rows[lane][chunk(lane) * 8]);
  }
  for (unsigned i = 0; i < 4; ++i) out[lane * 4 + i] = words[i];
}

TEST_CASE("ldmatrix gives each lane its elements, and counts bank conflicts") {
  const DeviceArray<std::uint32_t> out(128);
  std::uint32_t* const words = out.data();
  const auto first = [](unsigned) { return 0u; };
  const auto swizzled = [](unsigned lane) { return lane % 8; };
  simt::take_statistics();

  expect_clean(
      32, [=] { load_tiles<false>(words, first); }, sizeof(Tiles));
  simt::Statistics counted = simt::take_statistics();
  CHECK(counted.matrix_loads == 5);            // a launch for each seed
  CHECK(counted.bank_conflicts == 5 * 4 * 7);  // eight rows of a tile in the same banks
  std::vector<std::uint32_t> found = out.values();
  for (unsigned lane = 0; lane < 32; ++lane) {
    for (unsigned tile = 0; tile < 4; ++tile) {
      const unsigned element = (tile * 8 + lane / 4) * 64 + lane % 4 * 2;
      CHECK(found[lane * 4 + tile] == ((element + 1) << 16 | element));
    }
  }

  expect_clean(
      32, [=] { load_tiles<true>(words, first); }, sizeof(Tiles));
  found = out.values();
  for (unsigned lane = 0; lane < 32; ++lane) {
    for (unsigned tile = 0; tile < 4; ++tile) {
      const unsigned element = (tile * 8 + lane % 4 * 2) * 64 + lane / 4;
      CHECK(found[lane * 4 + tile] == ((element + 64) << 16 | element));
    }
  }

  simt::take_statistics();
  expect_clean(
      32, [=] { load_tiles<false>(words, swizzled); }, sizeof(Tiles));
  CHECK(simt::take_statistics().bank_conflicts == 0);
}

TEST_CASE("ldmatrix refuses a row that is misaligned or outside shared memory") {
  const auto load_at = [](unsigned byte) {
    return [byte] {
      std::uint32_t words[4];
      ptx::ldmatrix_x4(words,
                       reinterpret_cast<char*>(&kvferry::kernels::shared_storage<Tiles>()) + byte);
    };
  };
  expect_fault("ldmatrix_x4 at matrix_test.cpp:", 32, load_at(8), sizeof(Tiles));
  expect_fault("not a multiple of 16", 32, load_at(8), sizeof(Tiles));
  expect_fault("outside shared memory", 32, load_at(sizeof(Tiles)), sizeof(Tiles));
}

TEST_CASE("a product without its whole warp") {
  expect_fault("mma_s8", 32, [] {
    std::int32_t sums[4] = {};
    const std::uint32_t a[4] = {};
    const std::uint32_t b[2] = {};
    if (threadIdx.x != 3) ptx::mma_s8(sums, a, b);
  });
}

TEST_CASE("exp2_approx") {
  CHECK(ptx::exp2_approx(3.0f) == 8.0f);
  CHECK(ptx::exp2_approx(-INFINITY) == 0.0f);
  CHECK(ptx::exp2_approx(-130.0f) == 0.0f);
}

}  // namespace
}  // namespace kvferry_test
