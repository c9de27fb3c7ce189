// ldmatrix and the tensor core's products, computed by the last lane of the warp to arrive.
#include <algorithm>
#include <cstdint>
#include <cstring>

#include "kvferry/core/half.hpp"

#include "simt/block.hpp"
#include "simt/memory_access.hpp"
#include "simt/observer.hpp"
#include "simt/ptx.hpp"

namespace simt {
namespace {

constexpr std::uint32_t kAllLanes = 0xffffffffu;
constexpr std::size_t kRowBytes = 16;  // of an 8 x 8 tile of 16 bits

struct LoadSlot {
  std::uint32_t* tiles;
  const char* row;
};

template <typename Sum>
struct ProductSlot {
  Sum* sums;
  const std::uint32_t* a;
  const std::uint32_t* b;
};

// A row of 16 bytes takes 4 of the 32 banks; rows of a tile that share them, and are not one row,
// take a wavefront each.
std::uint64_t bank_conflicts(void* const (&slots)[kWarpLanes], unsigned tile, const char* base) {
  std::size_t rows[8][8];
  std::size_t counts[8] = {};
  std::size_t most = 1;
  for (unsigned i = 0; i < 8; ++i) {
    const char* row = static_cast<const LoadSlot*>(slots[8 * tile + i])->row;
    const std::size_t chunk = static_cast<std::size_t>(row - base) / kRowBytes;
    std::size_t& count = counts[chunk % 8];
    std::size_t* begin = rows[chunk % 8];
    if (std::find(begin, begin + count, chunk) == begin + count) begin[count++] = chunk;
    most = std::max(most, count);
  }
  return most - 1;
}

template <bool kIsTransposed>
void combine_load(void* const (&slots)[kWarpLanes], std::uint32_t) {
  BlockRunner& runner = *BlockRunner::current();
  ++runner.statistics().matrix_loads;
  for (unsigned tile = 0; tile < 4; ++tile) {
    runner.statistics().bank_conflicts += bank_conflicts(slots, tile, runner.shared().base());
    std::uint16_t elements[8][8];
    for (unsigned row = 0; row < 8; ++row) {
      std::memcpy(elements[row], static_cast<const LoadSlot*>(slots[8 * tile + row])->row,
                  kRowBytes);
    }
    for (unsigned lane = 0; lane < kWarpLanes; ++lane) {
      const unsigned row = lane / 4;
      const unsigned column = 2 * (lane % 4);
      const std::uint32_t low = kIsTransposed ? elements[column][row] : elements[row][column];
      const std::uint32_t high =
          kIsTransposed ? elements[column + 1][row] : elements[row][column + 1];
      static_cast<LoadSlot*>(slots[lane])->tiles[tile] = high << 16 | low;
    }
  }
}

void combine_mma_s8(void* const (&slots)[kWarpLanes], std::uint32_t) {
  std::int16_t a[16][32];
  std::int16_t b[8][32];  // [n][k]
  for (unsigned lane = 0; lane < kWarpLanes; ++lane) {
    const auto* slot = static_cast<const ProductSlot<std::int32_t>*>(slots[lane]);
    const unsigned g = lane / 4;
    const unsigned k = 4 * (lane % 4);
    for (unsigned i = 0; i < 4; ++i) {
      const auto byte = [i](std::uint32_t word) {
        return static_cast<std::int16_t>(static_cast<std::int8_t>(word >> (8 * i)));
      };
      a[g][k + i] = byte(slot->a[0]);
      a[g + 8][k + i] = byte(slot->a[1]);
      a[g][k + 16 + i] = byte(slot->a[2]);
      a[g + 8][k + 16 + i] = byte(slot->a[3]);
      b[g][k + i] = byte(slot->b[0]);
      b[g][k + 16 + i] = byte(slot->b[1]);
    }
  }
  std::uint32_t products[16][8];  // sums wrap
  for (unsigned m = 0; m < 16; ++m) {
    for (unsigned n = 0; n < 8; ++n) {
      std::int32_t sum = 0;
      for (unsigned k = 0; k < 32; ++k) sum += a[m][k] * b[n][k];
      products[m][n] = static_cast<std::uint32_t>(sum);
    }
  }
  for (unsigned lane = 0; lane < kWarpLanes; ++lane) {
    std::int32_t* sums = static_cast<const ProductSlot<std::int32_t>*>(slots[lane])->sums;
    for (unsigned i = 0; i < 4; ++i) {
      const std::uint32_t product = products[lane / 4 + i / 2 * 8][2 * (lane % 4) + i % 2];
      sums[i] = static_cast<std::int32_t>(static_cast<std::uint32_t>(sums[i]) + product);
    }
  }
}

void combine_mma_f16(void* const (&slots)[kWarpLanes], std::uint32_t) {
  float a[16][16];
  float b[16][8];  // [k][n]
  float sums[16][8];
  for (unsigned lane = 0; lane < kWarpLanes; ++lane) {
    const auto* slot = static_cast<const ProductSlot<float>*>(slots[lane]);
    const unsigned g = lane / 4;
    const unsigned k = 2 * (lane % 4);
    for (unsigned i = 0; i < 2; ++i) {
      const auto element = [i](std::uint32_t word) {
        return kvferry::to_float(kvferry::Half{static_cast<std::uint16_t>(word >> (16 * i))});
      };
      a[g][k + i] = element(slot->a[0]);
      a[g + 8][k + i] = element(slot->a[1]);
      a[g][k + 8 + i] = element(slot->a[2]);
      a[g + 8][k + 8 + i] = element(slot->a[3]);
      b[k + i][g] = element(slot->b[0]);
      b[k + 8 + i][g] = element(slot->b[1]);
      sums[g][k + i] = slot->sums[i];
      sums[g + 8][k + i] = slot->sums[2 + i];
    }
  }
  for (unsigned m = 0; m < 16; ++m) {
    for (unsigned k = 0; k < 16; ++k) {
      for (unsigned n = 0; n < 8; ++n) sums[m][n] += a[m][k] * b[k][n];
    }
  }
  for (unsigned lane = 0; lane < kWarpLanes; ++lane) {
    float* results = static_cast<const ProductSlot<float>*>(slots[lane])->sums;
    const unsigned column = 2 * (lane % 4);
    for (unsigned i = 0; i < 4; ++i) results[i] = sums[lane / 4 + i / 2 * 8][column + i % 2];
  }
}

}  // namespace

void ldmatrix_x4(std::uint32_t* tiles, const void* shared_row, bool is_transposed, Site site) {
  const char* const operation = is_transposed ? "ldmatrix_x4_transposed" : "ldmatrix_x4";
  check_shared(shared_row, kRowBytes, kRowBytes, operation, site);
  if (observer() != nullptr) observer()->access(Access::kRead, shared_row, kRowBytes, site);
  LoadSlot slot = {tiles, static_cast<const char*>(shared_row)};
  BlockRunner::current()->meet(operation, kAllLanes, site, &slot,
                               is_transposed ? &combine_load<true> : &combine_load<false>);
}

void mma_s8(std::int32_t* sums, const std::uint32_t* a, const std::uint32_t* b, Site site) {
  ProductSlot<std::int32_t> slot = {sums, a, b};
  BlockRunner::current()->meet("mma_s8", kAllLanes, site, &slot, &combine_mma_s8);
}

void mma_f16(float* sums, const std::uint32_t* a, const std::uint32_t* b, Site site) {
  ProductSlot<float> slot = {sums, a, b};
  BlockRunner::current()->meet("mma_f16", kAllLanes, site, &slot, &combine_mma_f16);
}

}  // namespace simt
