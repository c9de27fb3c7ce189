// Launches: shapes, names, host threads.
#include "kernels/launch.cuh"

#include <limits>
#include <vector>

#include <catch2/catch.hpp>

#include "tests/simt/device_array.hpp"
#include "tests/simt/expect_fault.hpp"

namespace kvferry_test {

struct FillParams {
  unsigned* out;
};

// Outside the unnamed namespace, so that the program exports its name.
__global__ void fill_in_order(FillParams params) {
  const unsigned block = (blockIdx.z * gridDim.y + blockIdx.y) * gridDim.x + blockIdx.x;
  const unsigned thread = (threadIdx.z * blockDim.y + threadIdx.y) * blockDim.x + threadIdx.x;
  const unsigned threads = blockDim.x * blockDim.y * blockDim.z;
  params.out[block * threads + thread] = block * threads + thread;
}

__global__ void wait_alone(FillParams) {
  if (threadIdx.x == 0) __syncthreads();
}

namespace {

using kvferry::kernels::launch;
using kvferry::kernels::LaunchShape;

TEST_CASE("every thread of every block runs once, with its indices") {
  const unsigned count = 3 * 4 * 2 * 5 * 2 * 3;
  const DeviceArray<unsigned> out(count);
  const LaunchShape shape = {dim3(3, 4, 2), dim3(5, 2, 3), 0, nullptr};
  CHECK(launch(shape, &fill_in_order, FillParams{out.data()}) == cudaSuccess);
  for (unsigned i = 0; i < count; ++i) CHECK(out.values()[i] == i);
}

TEST_CASE("a launch that the device would refuse") {
  const auto with = [](dim3 grid, dim3 block, std::size_t shared_bytes) {
    return launch(LaunchShape{grid, block, shared_bytes, nullptr}, &wait_alone,
                  FillParams{nullptr});
  };
  CHECK(with(dim3(1), dim3(1025), 0) == cudaErrorInvalidConfiguration);
  CHECK(with(dim3(1), dim3(0), 0) == cudaErrorInvalidConfiguration);
  CHECK(with(dim3(0), dim3(1), 0) == cudaErrorInvalidConfiguration);
  CHECK(with(dim3(1), dim3(64, 32), 0) == cudaErrorInvalidConfiguration);
  CHECK(with(dim3(1, 65536), dim3(1), 0) == cudaErrorInvalidConfiguration);
  CHECK(with(dim3(1), dim3(1), 164 * 1024) == cudaErrorInvalidConfiguration);
  CHECK(cudaGetLastError() == cudaErrorInvalidConfiguration);
}

TEST_CASE("the error names the kernel") {
  const LaunchShape shape = {dim3(2), dim3(64), 0, nullptr};
  CHECK(launch(shape, &wait_alone, FillParams{nullptr}) == cudaErrorLaunchFailure);
  CHECK_THAT(simt::take_errors(),
             Catch::StartsWith("kvferry_test::wait_alone(kvferry_test::FillParams), block ("));
}

// A sum that depends on its order, and the order in which blocks come to a ticket.
std::vector<float> sum_in_turn(unsigned host_threads) {
  const unsigned blocks = 100;
  const DeviceArray<float> out(std::vector<float>(blocks + 1, 0.0f));
  const DeviceArray<unsigned> ticket(std::vector<unsigned>(1, 0));
  float* const sums = out.data();
  unsigned* const counter = ticket.data();
  simt::settings().host_threads = host_threads;
  CHECK(simt::launch(dim3(blocks), dim3(32), 0, nullptr, nullptr, [=] {
          if (threadIdx.x != 0) return;
          const unsigned turn = atomicAdd(counter, 1u);
          sums[1 + turn] = static_cast<float>(blockIdx.x);
          atomicAdd(sums, 1.0f / static_cast<float>(blockIdx.x + 1));
        }) == cudaSuccess);
  simt::settings().host_threads = 0;
  return out.values();
}

TEST_CASE("results do not depend on the number of host threads") {
  const std::vector<float> alone = sum_in_turn(1);
  CHECK(sum_in_turn(2) == alone);
  CHECK(sum_in_turn(7) == alone);
}

TEST_CASE("the first block that fails is reported, whatever the number of host threads") {
  std::string reported[3];
  for (unsigned threads = 1; threads <= 3; ++threads) {
    simt::settings().host_threads = threads;
    CHECK(simt::launch(dim3(50), dim3(32), 0, nullptr, nullptr, [] {
            if (blockIdx.x % 7 == 3 && threadIdx.x == 0) __syncwarp(2u);
          }) == cudaErrorLaunchFailure);
    reported[threads - 1] = simt::take_errors();
  }
  simt::settings().host_threads = 0;
  CHECK(reported[0] == reported[1]);
  CHECK(reported[0] == reported[2]);
}

}  // namespace
}  // namespace kvferry_test
