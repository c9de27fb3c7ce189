// The race build: races on shared memory are found, and ordered code is let pass.
#include <catch2/catch.hpp>

#include "kernels/ptx.cuh"
#include "kernels/shared_storage.cuh"
#include "tests/simt/device_array.hpp"
#include "tests/simt/expect_fault.hpp"

namespace kvferry_test {
namespace {

namespace ptx = kvferry::kernels::ptx;

struct Words {
  unsigned values[256];
};

unsigned* words() {
  return kvferry::kernels::shared_storage<Words>().values;
}

TEST_CASE("race: two threads write one word") {
  expect_fault(
      "race build: writes at race_shared_test.cpp:", 64, [] { words()[5] = threadIdx.x; },
      sizeof(Words));
  expect_fault(
      "byte 20 of shared memory, which thread ", 64, [] { words()[5] = threadIdx.x; },
      sizeof(Words));
}

TEST_CASE("race: a read of another warp's word without a barrier") {
  const DeviceArray<unsigned> out(64);
  unsigned* const sink = out.data();
  const auto exchange = [sink](bool with_barrier) {
    return [sink, with_barrier] {
      words()[threadIdx.x] = threadIdx.x;
      if (with_barrier) __syncthreads();
      sink[threadIdx.x] = words()[63 - threadIdx.x];
    };
  };
  expect_fault("in no order with it", 64, exchange(false), sizeof(Words));
  expect_clean(64, exchange(true), sizeof(Words));
}

TEST_CASE("race: a word is written while others still read it") {
  const DeviceArray<unsigned> out(64);
  unsigned* const sink = out.data();
  const auto overwrite = [sink](bool with_barrier) {
    return [sink, with_barrier] {
      if (threadIdx.x == 0) words()[0] = 1;
      __syncthreads();
      sink[threadIdx.x] = words()[0];
      if (with_barrier) __syncthreads();
      if (threadIdx.x == 40) words()[0] = 2;
    };
  };
  expect_fault("in no order with it", 64, overwrite(false), sizeof(Words));
  expect_clean(64, overwrite(true), sizeof(Words));
}

// A sum over a warp without shuffles, as it was written for lanes in step.
template <bool kIsSynchronised>
void warp_tree() {
  volatile unsigned* values = words();
  const unsigned lane = threadIdx.x % 32;
  volatile unsigned* own = values + threadIdx.x;
  *own = lane;
  for (unsigned distance = 16; distance > 0; distance /= 2) {
    if (kIsSynchronised) __syncwarp();
    const unsigned other = lane < distance ? own[distance] : 0;
    if (kIsSynchronised) __syncwarp();
    if (lane < distance) *own = *own + other;
  }
  if (lane == 0 && kIsSynchronised && *own != 496) __syncthreads();
}

TEST_CASE("race: warp-synchronous code needs __syncwarp") {
  expect_fault(
      "in no order with it", 64, [] { warp_tree<false>(); }, sizeof(Words));
  expect_clean(
      64, [] { warp_tree<true>(); }, sizeof(Words));
}

TEST_CASE("race: __syncwarp orders only the lanes of its mask") {
  const auto exchange = [](bool with_all) {
    return [with_all] {
      const unsigned lane = threadIdx.x;
      words()[lane] = lane;
      __syncwarp(with_all ? 0xffffffffu : lane < 16 ? 0xffffu : 0xffff0000u);
      volatile unsigned* values = words();
      static_cast<void>(values[31 - lane]);
    };
  };
  expect_fault("in no order with it", 32, exchange(false), sizeof(Words));
  expect_clean(32, exchange(true), sizeof(Words));
}

TEST_CASE("race: a shuffle orders no memory") {
  expect_fault(
      "in no order with it", 32,
      [] {
        words()[threadIdx.x] = threadIdx.x;
        __shfl_xor_sync(0xffffffffu, 1, 1);
        volatile unsigned* values = words();
        static_cast<void>(values[threadIdx.x ^ 1]);
      },
      sizeof(Words));
}

TEST_CASE("race: a tree over a block with barriers passes, without one it does not") {
  const auto tree = [](unsigned without) {
    return [without] {
      unsigned* values = words();
      values[threadIdx.x] = 1;
      __syncthreads();
      for (unsigned distance = 64; distance > 0; distance /= 2) {
        if (threadIdx.x < distance) values[threadIdx.x] += values[threadIdx.x + distance];
        if (distance != without) __syncthreads();
      }
    };
  };
  expect_clean(128, tree(0), sizeof(Words));
  expect_fault("in no order with it", 128, tree(64), sizeof(Words));
}

TEST_CASE("race: bytes of one word are apart") {
  const auto write_bytes = [](unsigned overlap) {
    return [overlap] {
      auto* bytes = reinterpret_cast<unsigned char*>(words());
      bytes[threadIdx.x] = 1;
      bytes[threadIdx.x + overlap] = 2;
    };
  };
  expect_clean(64, write_bytes(0), sizeof(Words));
  expect_fault("in no order with it", 64, write_bytes(1), sizeof(Words));
  expect_clean(
      64,
      [] {
        auto* halves = reinterpret_cast<unsigned short*>(words());
        halves[threadIdx.x] = 1;
        __syncthreads();
        words()[threadIdx.x] = 3;  // whole words over the split ones
      },
      sizeof(Words));
}

TEST_CASE("race: 128 bits over one word") {
  expect_fault(
      "in no order with it", 33,
      [] {
        if (threadIdx.x == 32) {
          *reinterpret_cast<uint4*>(words() + 4) = make_uint4(1, 2, 3, 4);
        } else if (threadIdx.x == 6) {
          words()[6] = 1;
        }
      },
      sizeof(Words));
}

TEST_CASE("race: atomics on shared memory pass among each other only") {
  expect_clean(
      64,
      [] {
        if (threadIdx.x == 0) words()[0] = 0;
        __syncthreads();
        atomicAdd(words(), 1u);
        __syncthreads();
        if (threadIdx.x == 9 && words()[0] != 64) __syncthreads();
      },
      sizeof(Words));
  expect_fault(
      "in no order with it", 64,
      [] {
        atomicAdd(words(), 1u);
        volatile unsigned* values = words();
        static_cast<void>(values[0]);
      },
      sizeof(Words));
}

// Two stages filled in turn.
void double_buffer(const unsigned* in, unsigned* out, bool with_second_barrier) {
  auto* stages = reinterpret_cast<uint4(*)[32]>(words());
  const unsigned lane = threadIdx.x;
  const unsigned other = 31 - lane;
  unsigned sum = 0;
  ptx::cp_async_16(&stages[0][lane], in + lane * 4);
  ptx::cp_async_commit();
  for (unsigned step = 0; step < 4; ++step) {
    if (step < 3) ptx::cp_async_16(&stages[(step + 1) % 2][lane], in + lane * 4);
    ptx::cp_async_commit();
    ptx::cp_async_wait<1>();
    __syncthreads();
    sum += stages[step % 2][other].x;
    if (with_second_barrier) __syncthreads();
  }
  ptx::cp_async_wait<0>();
  out[lane] = sum;
}

TEST_CASE("race: double buffering with cp.async") {
  const DeviceArray<unsigned> in(std::vector<unsigned>(128, 3));
  const DeviceArray<unsigned> out(32);
  const unsigned* const from = in.data();
  unsigned* const to = out.data();
  expect_clean(
      32, [=] { double_buffer(from, to, true); }, sizeof(Words));
  CHECK(out.values() == std::vector<unsigned>(32, 12));
  expect_fault(
      "in no order with it", 32, [=] { double_buffer(from, to, false); }, sizeof(Words));
}

TEST_CASE("race: one's own copy read before the wait, another's after it without a barrier") {
  const DeviceArray<unsigned> in(std::vector<unsigned>(128, 3));
  const unsigned* const from = in.data();
  const auto look = [from](unsigned distance) {
    return [from, distance] {
      ptx::cp_async_16(words() + threadIdx.x * 4, from + threadIdx.x * 4);
      ptx::cp_async_commit();
      ptx::cp_async_wait<0>();
      volatile unsigned* values = words();
      static_cast<void>(values[(threadIdx.x ^ distance) * 4]);
    };
  };
  expect_clean(32, look(0), sizeof(Words));
  expect_fault("in no order with it", 32, look(1), sizeof(Words));
}

TEST_CASE("race: ldmatrix of rows that another warp has just written") {
  const auto load = [](bool with_barrier) {
    return [with_barrier] {
      words()[threadIdx.x] = threadIdx.x;
      words()[threadIdx.x + 64] = threadIdx.x;
      if (with_barrier) __syncthreads();
      std::uint32_t tiles[4];
      ptx::ldmatrix_x4(tiles, words() + threadIdx.x % 32 * 4);
    };
  };
  expect_clean(64, load(true), sizeof(Words));
  expect_fault("in no order with it", 64, load(false), sizeof(Words));
}

TEST_CASE("race: the race build refuses plain accesses outside memory or misaligned") {
  expect_fault(
      "reads at race_shared_test.cpp:", 1,
      [] {
        volatile unsigned* values = words();
        static_cast<void>(values[256]);
      },
      sizeof(Words));
  expect_fault(
      "outside shared memory", 1,
      [] {
        volatile unsigned* values = words();
        static_cast<void>(values[256]);
      },
      sizeof(Words));
  expect_fault(
      "not a multiple of 16", 1,
      [] {
        volatile unsigned offset = 2;
        uint4* to = reinterpret_cast<uint4*>(words() + offset);
        *to = *reinterpret_cast<const uint4*>(words() + 8);
      },
      sizeof(Words));
}

}  // namespace
}  // namespace kvferry_test
