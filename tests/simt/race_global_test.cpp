// The race build: races on global memory, between threads of a block and between blocks.
#include <vector>

#include <catch2/catch.hpp>

#include "tests/simt/block_sum.cuh"
#include "tests/simt/device_array.hpp"
#include "tests/simt/expect_fault.hpp"

namespace kvferry_test {
namespace {

TEST_CASE("race: two blocks write one word") {
  const DeviceArray<unsigned> out(8);
  unsigned* const data = out.data();
  expect_fault(
      "byte 12 of an allocation of 32 bytes, which another block writes", 32,
      [data] {
        if (threadIdx.x == 3) data[3] = 1;
      },
      0, 2);
  expect_clean(
      32,
      [data] {
        if (threadIdx.x == 3) data[blockIdx.x] = 1;
      },
      0, 8);
}

TEST_CASE("race: a block reads what another writes") {
  const DeviceArray<unsigned> out(std::vector<unsigned>(8, 0));
  unsigned* const data = out.data();
  expect_fault(
      "in no order with it", 1,
      [data] {
        volatile unsigned* values = data;
        if (blockIdx.x == 0) {
          values[0] = 1;
        } else {
          static_cast<void>(values[0]);
        }
      },
      0, 4);
}

TEST_CASE("race: threads of a block exchange through global memory with a barrier only") {
  const DeviceArray<unsigned> out(64);
  unsigned* const data = out.data();
  const auto exchange = [data](bool with_barrier) {
    return [data, with_barrier] {
      volatile unsigned* values = data;
      values[threadIdx.x] = 1;
      if (with_barrier) __syncthreads();
      static_cast<void>(values[63 - threadIdx.x]);
    };
  };
  expect_clean(64, exchange(true));
  expect_fault("in no order with it", 64, exchange(false));
}

TEST_CASE("race: launches are ordered") {
  const DeviceArray<unsigned> out(std::vector<unsigned>(8, 0));
  unsigned* const data = out.data();
  for (unsigned i = 0; i < 4; ++i) {
    CHECK(simt::launch(dim3(1), dim3(1 + i), 0, nullptr, nullptr, [data, i] {
            if (threadIdx.x == i) data[0] = data[0] + 1;
          }) == cudaSuccess);
  }
  CHECK(out.values()[0] == 4);
}

// Every block leaves a part; the last to take a ticket adds them up.
void sum_by_last_block(unsigned* parts, unsigned* ticket, unsigned* result, bool with_fence) {
  parts[blockIdx.x * 32 + threadIdx.x] = threadIdx.x;
  if (with_fence) __threadfence();
  __syncthreads();
  if (threadIdx.x != 0) return;
  if (atomicAdd(ticket, 1u) + 1 != gridDim.x) return;
  unsigned sum = 0;
  for (unsigned i = 0; i < gridDim.x * 32; ++i) sum += parts[i];
  *result = sum;
  *ticket = 0;
}

TEST_CASE("race: the last block reads the others' parts after fence and ticket") {
  const unsigned blocks = 6;
  const DeviceArray<unsigned> parts(blocks * 32);
  const DeviceArray<unsigned> ticket(std::vector<unsigned>(1, 0));
  const DeviceArray<unsigned> result(1);
  unsigned* const p = parts.data();
  unsigned* const t = ticket.data();
  unsigned* const r = result.data();
  expect_clean(
      32, [=] { sum_by_last_block(p, t, r, true); }, 0, blocks);
  CHECK(result.values()[0] == blocks * 496);
  const std::uint64_t seed_before = simt::settings().seed;
  CHECK(simt::launch(dim3(blocks), dim3(32), 0, nullptr, nullptr,
                     [=] { sum_by_last_block(p, t, r, false); }) == cudaErrorLaunchFailure);
  CHECK_THAT(simt::take_errors(), Catch::Contains("which another block writes in no order"));
  simt::settings().seed = seed_before;
}

TEST_CASE("race: atomics of blocks pass; a plain read beside them does not") {
  const DeviceArray<unsigned> out(std::vector<unsigned>(1, 0));
  unsigned* const data = out.data();
  expect_clean(
      64, [data] { atomicAdd(data, 1u); }, 0, 5);
  CHECK(out.values()[0] == 5 * 5 * 64);
  expect_fault(
      "in no order with it", 1,
      [data] {
        volatile unsigned* values = data;
        if (blockIdx.x == 0) static_cast<void>(values[0]);
        atomicAdd(data, 1u);
        static_cast<void>(values[0]);
      },
      0, 2);
}

TEST_CASE("race: reads by all threads of all blocks pass") {
  const DeviceArray<unsigned> in(std::vector<unsigned>(64, 1));
  const DeviceArray<unsigned> out(64 * 4);
  const unsigned* const from = in.data();
  unsigned* const to = out.data();
  expect_clean(
      64,
      [=] {
        unsigned sum = 0;
        for (unsigned i = 0; i < 64; ++i) sum += from[i];
        to[blockIdx.x * 64 + threadIdx.x] = sum;
      },
      0, 4);
}

TEST_CASE("race: an access outside an allocation") {
  const DeviceArray<unsigned> out(3);
  volatile unsigned* const data = out.data();
  expect_fault("outside an allocation of 12 bytes", 1, [data] { static_cast<void>(data[3]); });
}

}  // namespace
}  // namespace kvferry_test
