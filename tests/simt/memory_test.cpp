// Shared and global memory: what a kernel may touch.
#include <limits>

#include <catch2/catch.hpp>

#include "kernels/shared_storage.cuh"
#include "tests/simt/device_array.hpp"
#include "tests/simt/expect_fault.hpp"

// ASan ends the program at the first plain access that it refuses, and the race build has words of
// its own (race_shared_test.cpp); the checks of device functions are the same everywhere.
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr bool kPagesFault = false;
#else
constexpr bool kPagesFault = true;
#endif

namespace kvferry_test {
namespace {

struct Bytes {
  unsigned char values[100];
};

TEST_CASE("shared memory begins as 0xFF and is as large as the launch says") {
  expect_clean(
      32,
      [] {
        auto& shared = kvferry::kernels::shared_storage<Bytes>();
        if (threadIdx.x == 0 && shared.values[99] != 0xff) __syncthreads();
      },
      sizeof(Bytes));
  expect_fault(
      "asks for 100 bytes of shared memory, the launch gives 99", 32,
      [] { kvferry::kernels::shared_storage<Bytes>(); }, sizeof(Bytes) - 1);
}

TEST_CASE("a write past the end of shared memory") {
  if (!kPagesFault) return;
  const auto write_at = [](unsigned index) {
    return [index] {
      volatile unsigned char* bytes = kvferry::kernels::shared_storage<Bytes>().values;
      bytes[index] = 1;
    };
  };
  expect_fault("past the end of shared memory", 1, write_at(100), sizeof(Bytes));
  expect_fault("touches 28 bytes past the end of shared memory", 1, write_at(128), sizeof(Bytes));
}

TEST_CASE("an access outside an allocation") {
  if (!kPagesFault) return;
  const DeviceArray<int> array(64);
  volatile int* data = array.data();
  expect_fault("touches 0 bytes past the end of an allocation of 256 bytes", 1,
               [data] { data[64] = 1; });
  const DeviceArray<int> odd(3);
  volatile int* odd_data = odd.data();
  expect_fault("past the end of an allocation of 12 bytes", 1, [odd_data] { odd_data[3] = 1; });
  volatile int* nowhere = nullptr;
  expect_fault("not the kernel's", 1, [&nowhere] { nowhere[16] = 1; });
}

TEST_CASE("__ldg reads within an allocation, aligned to its width") {
  const DeviceArray<unsigned> array(std::vector<unsigned>{1, 2, 3, 4, 5, 6, 7});
  const unsigned* data = array.data();
  expect_clean(1, [data] {
    const uint4 four = __ldg(reinterpret_cast<const uint4*>(data));
    const uint2 two = __ldg(reinterpret_cast<const uint2*>(data + 4));
    if (four.w != 4 || two.y != 6 || __ldg(data + 6) != 7) __syncthreads();
  });
  expect_fault("__ldg at memory_test.cpp:", 1, [data] { __ldg(data + 7); });
  expect_fault("touches 16 bytes outside global memory", 1,
               [data] { __ldg(reinterpret_cast<const uint4*>(data + 4)); });
  expect_fault("the address is not a multiple of 16 bytes", 1,
               [data] { __ldg(reinterpret_cast<const uint4*>(data + 1)); });
  const int on_host = 1;
  const int* host = &on_host;
  expect_fault("outside global memory", 1, [host] { __ldg(host); });
}

TEST_CASE("a kernel that divides by zero, and one whose stack overflows") {
  if (!kPagesFault) return;
  const DeviceArray<int> array(std::vector<int>{7, 0});
  volatile int* data = array.data();
#if defined(__x86_64__)
  expect_fault("division by zero", 1, [data] { data[0] = data[0] / data[1]; });
#endif
  struct Deep {
    static int call(int depth, volatile int* sink) {
      volatile char room[4096];
      room[0] = static_cast<char>(depth);
      return depth == 0 ? *sink : call(depth - 1, sink) + room[0];
    }
  };
  expect_fault("stack overflow", 1, [data] { data[0] = Deep::call(1000, data); });
}

TEST_CASE("atomics") {
  const DeviceArray<float> sums(std::vector<float>{0.0f, 0.0f, 0.0f, 0.0f});
  float* data = sums.data();
  const auto body = [data] {
    auto* counts = reinterpret_cast<unsigned*>(kvferry::kernels::shared_storage<Bytes>().values);
    if (threadIdx.x == 0) counts[0] = 0;
    __syncthreads();
    atomicAdd(counts, 1u);
    __syncthreads();
    if (threadIdx.x == 0) atomicAdd(data, static_cast<float>(counts[0]));
    atomicMax(reinterpret_cast<int*>(data + 1), static_cast<int>(blockIdx.x * 64 + threadIdx.x));
  };
  CHECK(simt::launch(dim3(50), dim3(64), sizeof(Bytes), nullptr, nullptr, body) == cudaSuccess);
  CHECK(sums.values()[0] == 50 * 64);
  CHECK(simt::bits_as<int>(sums.values()[1]) == 50 * 64 - 1);
  const float* const cdata = data;
  expect_fault("atomicAdd at memory_test.cpp:", 1,
               [cdata] { atomicAdd(const_cast<float*>(cdata) + 4, 1.0f); });
  expect_fault("not a multiple of 4 bytes", 1,
               [data] { atomicAdd(reinterpret_cast<int*>(reinterpret_cast<char*>(data) + 2), 1); });
}

TEST_CASE("what was never written reads as NaN") {
  const DeviceArray<float> array(5);
  for (float value : array.values()) CHECK(value != value);
}

TEST_CASE("a device without memory left says so") {
  const std::size_t limit = simt::settings().memory_bytes;
  std::size_t free = 0;
  std::size_t total = 0;
  simt::settings().memory_bytes = 1000;
  void* first = nullptr;
  void* second = nullptr;
  CHECK(cudaMalloc(&first, 900) == cudaSuccess);
  CHECK(cudaMalloc(&second, 101) == cudaErrorMemoryAllocation);
  CHECK(second == nullptr);
  CHECK(cudaGetLastError() == cudaErrorMemoryAllocation);
  CHECK(cudaGetLastError() == cudaSuccess);
  CHECK(cudaMemGetInfo(&free, &total) == cudaSuccess);
  CHECK(free == 100);
  CHECK(total == 1000);
  CHECK(cudaMalloc(&second, std::numeric_limits<std::size_t>::max()) == cudaErrorMemoryAllocation);
  CHECK(cudaFree(first) == cudaSuccess);
  CHECK(cudaFree(first) == cudaErrorInvalidValue);
  CHECK_THAT(simt::take_errors(),
             Catch::Contains("cudaFree: frees a pointer that is not allocated"));
  simt::settings().memory_bytes = limit;
}

}  // namespace
}  // namespace kvferry_test
