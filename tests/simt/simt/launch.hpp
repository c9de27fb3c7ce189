// launch(): what kernels/launch.cuh calls, and what a test sets and asks about launches. C++14.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>

#include "simt/vector_types.hpp"

enum cudaError : int;

namespace simt {

struct Stream;

// Runs `body`, which calls the kernel with its parameters, once for every thread; on a stream that
// is being captured it becomes a node of the graph. Blocks begin in an order drawn from the seed.
// Any fault of the kernel ends the launch: cudaErrorLaunchFailure, and a text for take_errors().
// `kernel` is for its name alone.
cudaError launch(dim3 grid, dim3 block, std::size_t shared_bytes, Stream* stream,
                 const void* kernel, const std::function<void()>& body);

// The machine that is emulated; a test may change it between launches.
struct Settings {
  std::uint64_t seed = 1;
  unsigned host_threads = 0;  // that run blocks; 0: as many as the host has
  std::size_t memory_bytes = std::size_t{4} << 30;
  int multiprocessors = 1;
  int compute_major = 5;
  int compute_minor = 3;
  int max_shared_bytes = 163 * 1024;  // of a block, with the opt-in
};
Settings& settings();

// What was found wrong since the last call, a line for each: faults of kernels and misuse of the
// runtime. Empty when nothing was.
std::string take_errors();

// Counts since the last call.
struct Statistics {
  std::uint64_t launches = 0;
  std::uint64_t blocks = 0;
  std::uint64_t switches = 0;        // from lane to lane
  std::uint64_t matrix_loads = 0;    // ldmatrix, by warps
  std::uint64_t bank_conflicts = 0;  // wavefronts of ldmatrix beyond one for each 8 x 8 tile
};
Statistics take_statistics();

}  // namespace simt
