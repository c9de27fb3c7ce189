#include "row_kernels.hpp"

#include <cstdlib>
#include <cstring>

#include "row_loops.hpp"

#if defined(__x86_64__)
#include <cpuid.h>
#endif

namespace kvferry {
namespace {

#if defined(__x86_64__)
bool machine_has_avx2() {
  // __builtin_cpu_supports() knows F16C only from gcc 11 and clang 15 on.
  unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
  return __builtin_cpu_supports("avx2") && __get_cpuid(1, &eax, &ebx, &ecx, &edx) != 0 &&
         (ecx & bit_F16C) != 0;
}
bool machine_has_avx512() {
  return machine_has_avx2() && __builtin_cpu_supports("avx512f") &&
         __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
         __builtin_cpu_supports("avx512vl");
}
#endif

const RowKernels& choose() {
  const std::vector<const RowKernels*> available = available_row_kernels();
  if (const char* wanted = std::getenv("KVFERRY_ISA")) {
    for (const RowKernels* kernels : available) {
      if (std::strcmp(wanted, kernels->name) == 0) return *kernels;
    }
  }
  return *available.back();
}

}  // namespace

namespace {

void rotate(const RowRotation& r, bool inverse, float* row) {
  rotate_from(0, r, inverse, row);
}
void tile_to_runs(const std::int16_t* tile, std::size_t tokens, std::size_t channels,
                  const std::size_t* begins, std::int16_t* values) {
  tile_to_runs_from(0, tile, tokens, channels, begins, values);
}
void multiply(const ProductShape& shape, const float* x, const float* m, float* out) {
  multiply_part(0, shape.rows, 0, shape, x, m, out);
}
void runs_to_tile(const std::int16_t* values, const std::size_t* begins, std::size_t tokens,
                  std::size_t channels, std::int16_t* tile) {
  runs_to_tile_from(0, values, begins, tokens, channels, tile);
}
// What is above every magnitude, at most kMagnitudes.
std::size_t end_of_magnitudes(const std::int16_t* values, std::size_t count) {
  std::int32_t largest = 0;
  for (std::size_t i = 0; i < count; ++i) {
    const std::int32_t v = values[i] < 0 ? -values[i] : values[i];
    largest = v > largest ? v : largest;
  }
  const auto end = static_cast<std::size_t>(largest) + 1;
  return end < kMagnitudes ? end : kMagnitudes;
}
std::size_t count_magnitudes(const std::int16_t* values, std::size_t count, std::uint32_t* counts) {
  const std::size_t end = end_of_magnitudes(values, count);
  count_below(values, count, end, counts);
  return end;
}
std::uint32_t sum_of_costs(const std::uint32_t* counts, const std::uint32_t* costs,
                           std::size_t count) {
  std::uint32_t sum = 0;
  for (std::size_t v = 0; v < count; ++v) sum += counts[v] * costs[v];
  return sum;
}
void widen(const std::int8_t* kept, std::size_t count, std::uint32_t raw_bits,
           const std::uint8_t* planes, std::int16_t* values) {
  widen_from(0, kept, count, raw_bits, planes, values);
}

}  // namespace

const RowKernels* portable_row_kernels() {
  static constexpr RowKernels kKernels = {"portable",
                                          load,
                                          store,
                                          rotate,
                                          add,
                                          add_squares,
                                          quantise,
                                          dequantise,
                                          tile_to_runs,
                                          runs_to_tile,
                                          count_magnitudes,
                                          sum_of_costs,
                                          symbols_of_values,
                                          symbols_of_pairs,
                                          take_bits,
                                          widen,
                                          multiply};
  return &kKernels;
}

std::vector<const RowKernels*> available_row_kernels() {
  std::vector<const RowKernels*> available = {portable_row_kernels()};
  const auto offer = [&available](const RowKernels* kernels) {
    if (kernels != nullptr) available.push_back(kernels);
  };
#if defined(__x86_64__)
  if (machine_has_avx2()) offer(avx2_row_kernels());
  if (machine_has_avx512()) offer(avx512_row_kernels());
#endif
  offer(neon_row_kernels());
  return available;
}

const RowKernels& row_kernels() {
  static const RowKernels& chosen = choose();
  return chosen;
}

}  // namespace kvferry
