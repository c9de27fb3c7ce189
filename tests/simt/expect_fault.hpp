// Launches of lambdas, and assertions on what the emulation says of them. C++14.
#pragma once

#include <functional>
#include <string>

#include <catch2/catch.hpp>
#include <cuda_runtime.h>

namespace kvferry_test {

// One block of `threads` threads that run `body`.
inline cudaError_t run_block(unsigned threads, const std::function<void()>& body,
                             std::size_t shared_bytes = 0) {
  return simt::launch(dim3(1), dim3(threads), shared_bytes, nullptr, nullptr, body);
}

// The launch fails under each of several schedules, and the error says `expected`.
inline void expect_fault(const std::string& expected, unsigned threads,
                         const std::function<void()>& body, std::size_t shared_bytes = 0,
                         unsigned blocks = 1) {
  const std::uint64_t seed_before = simt::settings().seed;
  for (std::uint64_t seed = 1; seed <= 5; ++seed) {
    simt::settings().seed = seed;
    CHECK(simt::launch(dim3(blocks), dim3(threads), shared_bytes, nullptr, nullptr, body) ==
          cudaErrorLaunchFailure);
    CHECK_THAT(simt::take_errors(), Catch::Contains(expected));
  }
  simt::settings().seed = seed_before;
}

// It passes under each of several schedules.
inline void expect_clean(unsigned threads, const std::function<void()>& body,
                         std::size_t shared_bytes = 0, unsigned blocks = 1) {
  const std::uint64_t seed_before = simt::settings().seed;
  for (std::uint64_t seed = 1; seed <= 5; ++seed) {
    simt::settings().seed = seed;
    CHECK(simt::launch(dim3(blocks), dim3(threads), shared_bytes, nullptr, nullptr, body) ==
          cudaSuccess);
    CHECK(simt::take_errors() == "");
  }
  simt::settings().seed = seed_before;
}

}  // namespace kvferry_test
