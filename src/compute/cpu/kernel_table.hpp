// What every instruction set supplies: one table of functions over raw pointers. The drivers in
// this folder validate, split the work and call them.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kvferry/cache/geometry.hpp"
#include "kvferry/compute/cpu/attention.hpp"
#include "kvferry/compute/cpu/isa.hpp"
#include "kvferry/compute/cpu/packed_matrix.hpp"
#include "kvferry/compute/cpu/product.hpp"
#include "kvferry/model/rope.hpp"

// Intrinsics that gcc 7.5 lacks are left out with it: AVX512-VNNI and the Arm dot product.
#if defined(__x86_64__)
#define KVFERRY_CPU_AVX2 1
#if defined(__clang__) || __GNUC__ >= 8
#define KVFERRY_CPU_AVX512VNNI 1
#endif
#elif defined(__aarch64__) && !defined(__AARCH64EB__)
#define KVFERRY_CPU_NEON 1
#if defined(__clang__) || __GNUC__ >= 8
#define KVFERRY_CPU_DOTPROD 1
#endif
#endif

#define KVFERRY_INLINE __attribute__((always_inline)) inline

namespace kvferry::cpu {

// Start of a group of an integer Activations row; the whole numbers follow.
struct ActivationGroup {
  float scale;
  float scaled_sum;       // scale * sum
  std::int32_t sum;       // of the group's whole numbers
  std::int32_t half_sum;  // of the first 16
};

// One matrix product, as the kernels see it.
struct ProductTask {
  // PackedMatrix
  const std::uint8_t* weights;
  const std::uint16_t* scales;
  std::size_t outputs;
  std::size_t units;  // groups, or columns of F16
  WeightFormat format;
  bool has_minimum;
  bool has_half_groups;
  std::int32_t zero_point;
  float multiplier;
  // Activations
  ActivationFormat activation_format;
  // Output
  std::size_t out_stride;
  const float* bias;
  bool accumulate;
};

// Rows of one KV head's queries over one partition of keys.
struct PartitionTask {
  ElementType type;
  std::size_t head_dim;
  std::size_t padded_dim;  // head_dim rounded up to 16
  std::size_t rows;
  const std::uint8_t* const* blocks;  // of the partition
  std::size_t key_offset;             // from a block's start to the [32, head_dim] tile of the head
  std::size_t value_offset;
  std::size_t keys;              // keys of the partition that any row sees
  const std::uint32_t* visible;  // [rows] keys of the partition that the row sees
  const float* q;                // [rows / 8 rounded up, head_dim, 8], scaled for exp2
  float* tile;                   // [32 * padded_dim] converted keys or values
  std::uint8_t* partial_block;   // [32 * head_dim] values: a block that is not full, filled up
  float* scores;                 // [rows rounded up to 8, kAttentionPartition]
  float* out;                    // [rows rounded up to 8, padded_dim] sums of exp2 * value
  float* maximum;                // [rows]
  float* sum;                    // [rows] of exp2(score - maximum)
};

struct Kernels {
  Isa isa;

  // Panel `panel` times the first `rows` rows of one tile of Activations; `out` is its first row's.
  void (*multiply_panel)(const ProductTask& task, std::size_t panel, const std::uint8_t* tile,
                         std::size_t tile_rows, std::size_t rows, float* out);
  // One row of an integer format; units lie `unit_stride` bytes apart.
  void (*quantize_row)(const float* in, std::size_t groups, ActivationFormat format,
                       std::uint8_t* unit, std::size_t unit_stride);
  void (*rms_norm_row)(const float* in, std::size_t columns, const float* weight, float epsilon,
                       float* out);
  void (*swiglu)(const float* gate, const float* up, std::size_t count, float* out);
  void (*rope_row)(RopeLayout layout, const float* cosines, const float* sines, std::size_t pairs,
                   std::size_t heads, std::size_t head_dim, float* x);
  void (*store_values)(ElementType type, const float* in, std::size_t count, std::uint8_t* out);

  // Everything of a task but `out`: scores become exp2(score - maximum).
  void (*score_partition)(const PartitionTask& task);
  void (*attend_partition)(const PartitionTask& task);
  // Merges a partition's (maximum, sum, out) into the running ones, row by row.
  void (*merge_partition)(std::size_t rows, std::size_t padded_dim, const float* maximum,
                          const float* sum, const float* partial, float* running_maximum,
                          float* running_sum, float* running);
  // sums[i] += (factor * x[i])^2; `count` is a multiple of 16.
  void (*add_squares)(const float* x, float factor, std::size_t count, float* sums);
};

const Kernels& portable_kernels();
#if defined(KVFERRY_CPU_AVX2)
const Kernels& avx2_kernels();
#endif
#if defined(KVFERRY_CPU_AVX512VNNI)
const Kernels& avx512vnni_kernels();
#endif
#if defined(KVFERRY_CPU_NEON)
const Kernels& neon_kernels();
#endif
#if defined(KVFERRY_CPU_DOTPROD)
const Kernels& dotprod_kernels();
#endif

}  // namespace kvferry::cpu
