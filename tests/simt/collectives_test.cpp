// Barriers and warp collectives: what they give, and that misuse is found.
#include <catch2/catch.hpp>

#include "tests/simt/device_array.hpp"
#include "tests/simt/expect_fault.hpp"

namespace kvferry_test {
namespace {

constexpr unsigned kAll = 0xffffffffu;

TEST_CASE("shuffles read the lane that CUDA names") {
  const DeviceArray<int> out(32 * 6);
  int* results = out.data();
  expect_clean(32, [results] {
    const int lane = static_cast<int>(threadIdx.x);
    int* mine = results + lane * 6;
    mine[0] = __shfl_sync(kAll, lane, 5);
    mine[1] = __shfl_sync(kAll, lane, 9, 8);
    mine[2] = __shfl_up_sync(kAll, lane, 3, 16);
    mine[3] = __shfl_down_sync(kAll, lane, 3, 16);
    mine[4] = __shfl_xor_sync(kAll, lane, 7);
    mine[5] = __shfl_xor_sync(kAll, lane, 8, 8);
  });
  const std::vector<int> found = out.values();
  for (int lane = 0; lane < 32; ++lane) {
    const int* mine = found.data() + lane * 6;
    const int in_half = lane % 16;
    CHECK(mine[0] == 5);
    CHECK(mine[1] == lane / 8 * 8 + 1);
    CHECK(mine[2] == (in_half < 3 ? lane : lane - 3));
    CHECK(mine[3] == (in_half > 12 ? lane : lane + 3));
    CHECK(mine[4] == (lane ^ 7));
    CHECK(mine[5] == ((lane & 8) != 0 ? lane - 8 : lane));  // never a segment above
  }
}

TEST_CASE("shuffles of eight bytes, votes, and masks that part a warp") {
  const DeviceArray<unsigned> out(64);
  unsigned* results = out.data();
  expect_clean(64, [results] {
    const unsigned lane = threadIdx.x % 32;
    const unsigned mask = lane < 20 ? 0x000fffffu : 0xfff00000u;
    const double value = __shfl_sync(mask, lane + 0.5, lane < 20 ? 3 : 21);
    unsigned seen = __ballot_sync(mask, lane % 3 == 0);
    if (__any_sync(mask, lane == 25) != (lane < 20 ? 0 : 1)) seen = 0;
    if (__all_sync(mask, lane < 20) != (lane < 20 ? 1 : 0)) seen = 0;
    if (value != (lane < 20 ? 3.5 : 21.5)) seen = 0;
    results[threadIdx.x] = seen;
  });
  const std::vector<unsigned> found = out.values();
  for (unsigned i = 0; i < 64; ++i) {
    CHECK(found[i] == (0x49249249u & (i % 32 < 20 ? 0x000fffffu : 0xfff00000u)));
  }
}

TEST_CASE("a block of no whole number of warps has lanes missing") {
  expect_clean(40, [] {
    if (threadIdx.x >= 32) __syncwarp(0xffu);
    __syncthreads();
  });
  expect_fault("names lanes that the block does not have", 40, [] { __syncwarp(kAll); });
}

TEST_CASE("a barrier that not all threads reach") {
  expect_fault("no thread can run: ", 64, [] {
    if (threadIdx.x < 32) __syncthreads();
  });
  expect_fault("32 wait in __syncthreads at collectives_test.cpp:", 64, [] {
    if (threadIdx.x < 32) __syncthreads();
  });
  expect_fault("32 have exited", 64, [] {
    if (threadIdx.x < 32) __syncthreads();
  });
}

TEST_CASE("a divergent barrier") {
  expect_fault("__syncthreads at collectives_test.cpp:", 64, [] {
    if (threadIdx.x < 32) {
      __syncthreads();
    } else {
      __syncthreads();
    }
  });
  expect_fault("divergent barrier: others wait at collectives_test.cpp:", 64, [] {
    if (threadIdx.x < 32) {
      __syncthreads();
    } else {
      __syncthreads();
    }
  });
}

TEST_CASE("a caller that its mask does not name") {
  expect_fault("mask 0x0000ffff does not name the caller", 32, [] { __syncwarp(0xffffu); });
}

TEST_CASE("lanes that meet with different masks") {
  expect_fault("other lanes of the mask wait in __syncwarp", 32,
               [] { __syncwarp(threadIdx.x < 16 ? kAll : 0xffff0000u); });
}

TEST_CASE("a lane that has exited before a collective") {
  expect_fault("exit", 32, [] {
    if (threadIdx.x != 7) __ballot_sync(kAll, 1);
  });
}

TEST_CASE("different operations, and one operation on different lines") {
  expect_fault("other lanes of the mask wait in __", 32, [] {
    if (threadIdx.x % 2 == 0) {
      __ballot_sync(kAll, 1);
    } else {
      __syncwarp(kAll);
    }
  });
  expect_fault("other lanes of the mask wait in __shfl_xor_sync at collectives_test.cpp:", 32, [] {
    if (threadIdx.x % 2 == 0) {
      __shfl_xor_sync(kAll, 1, 1);
    } else {
      __shfl_xor_sync(kAll, 1, 1);
    }
  });
}

TEST_CASE("a warp that waits for a barrier and one for a warp that waits there") {
  expect_fault("16 wait in __syncthreads", 32, [] {
    if (threadIdx.x < 16) {
      __syncthreads();
    } else {
      __ballot_sync(kAll, 1);
    }
  });
}

TEST_CASE("a shuffle that reads a lane outside its mask, and one of no width") {
  expect_fault("reads lane 9, which is not in the mask", 32, [] {
    if (threadIdx.x < 8) __shfl_sync(0xffu, 1, 9);
  });
  expect_fault("width 12 is not a power of two", 32, [] { __shfl_sync(kAll, 1, 0, 12); });
}

TEST_CASE("the error names block and thread") {
  expect_fault("block (0, 0, 0), thread (3, 0, 0): __ballot_sync at collectives_test.cpp:", 32, [] {
    if (threadIdx.x == 3) __ballot_sync(1u, 1);
  });
}

}  // namespace
}  // namespace kvferry_test
