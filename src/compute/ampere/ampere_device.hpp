// What path::AmpereInt8 has on the device: a stream, the rows of the batch and buffers to work in.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include "kvferry/compute/ampere_path.hpp"

#include "../cuda/check.hpp"
#include "kernels/attention.cuh"
#include "kernels/gemm_s8_launch.cuh"
#include "kernels/norm_rope_write_launch.cuh"
#include "kernels/rotate_quantize_launch.cuh"

namespace kvferry::ampere {

struct Device {
  using Matrix = Compute<path::AmpereInt8>::Matrix;

  // Rows [begin, end) of the batch are one sequence's, the first at `position`.
  struct Run {
    std::size_t begin;
    std::size_t end;
    std::uint32_t position;
    std::size_t table;  // its blocks' place in the tables
  };

  explicit Device(const ModelConfig& model) : config(model) {}
  ~Device();
  // Once, before anything else.
  Status open();

  Status begin(const Batch& batch, const KvGeometry& geometry);

  // Operations have no way to return an error: the first is kept, and fence() gives it.
  void note(const Status& status) {
    if (failure.ok()) failure = status;
  }
  void note(const kernels::LaunchStatus& launched) {
    if (!launched.ok()) note(Status(launched.error()));
  }

  // To the device and back; download() returns when the bytes are there.
  void upload(cuda::DeviceBuffer& to, Bytes from);
  void download(const cuda::DeviceBuffer& from, MutableBytes to);

  // The rows from `first` on of the batch, as inputs of `matrix`, into quants and scales.
  template <typename Input>
  void quantize(const Input& input, std::size_t first, const Matrix& matrix) {
    note(kernels::launch_rotate_quantize(
        input, static_cast<int>(rows - first), matrix.columns, matrix.block,
        kernels::QuantizedRows{quants.as<std::int8_t>(), scales.as<float>()}, stream));
  }
  // The first `count` of those rows times `matrix`.
  template <typename Epilogue>
  void multiply(const Matrix& matrix, std::size_t count, const Epilogue& epilogue) {
    const kernels::GemmS8Operands operands = {quants.as<std::int8_t>(),
                                              scales.as<float>(),
                                              matrix.quants.as<std::int8_t>(),
                                              matrix.scales.as<float>(),
                                              static_cast<int>(count),
                                              matrix.rows,
                                              matrix.padded};
    // Few rows leave most of a large tile idle.
    const kernels::GemmS8Choice choice =
        count <= 64 ? kernels::GemmS8Choice{kernels::GemmS8Tile::k64x128, 4}
                    : kernels::kGemmS8Default;
    note(kernels::launch_gemm_s8(operands, epilogue, choice, stream));
  }

  float* hidden_row(std::size_t row) const { return hidden.as<float>() + row * config.hidden; }
  kernels::CacheRows cache_rows(std::uint32_t layer) const;
  kernels::RopeRotation rotation() const;
  // q of the rows from `first` on against the cache, into `attended`.
  void attention(std::uint32_t layer, std::size_t first);
  void token_attention(std::uint32_t layer, std::size_t queries, Span<float> out);
  Fence fence();

  const ModelConfig& config;
  cudaStream_t stream = nullptr;
  Status failure;

  std::size_t rows = 0;
  std::vector<TokenId> tokens;  // [rows]
  std::vector<Run> runs;
  KvBlockLayout layout{KvGeometry{}};

  // Of the batch.
  cuda::DeviceBuffer row_blocks;  // base of the block that holds a row's token, [rows]
  cuda::DeviceBuffer tables;      // bases of the blocks of every run
  cuda::DeviceBuffer positions;   // u32 [rows]
  cuda::DeviceBuffer hidden;      // F32 [rows, hidden]: the residual stream
  cuda::DeviceBuffer quants;      // int8 [rows, padded]
  cuda::DeviceBuffer scales;      // F32 [rows]
  cuda::DeviceBuffer qkv;         // F32 [rows, (heads + 2 kv_heads) * head_dim]
  cuda::DeviceBuffer q;           // F16 [rows, heads, head_dim]
  cuda::DeviceBuffer attended;    // F16 [rows, heads, head_dim]
  cuda::DeviceBuffer ffn;         // F16 [rows, ffn]
  cuda::DeviceBuffer logits;      // F32 [rows asked for, vocab]
  cuda::DeviceBuffer token_attention_out, token_attention_workspace;

 private:
  Status reserve_rows();
  // The table of cosines and sines, long enough for `positions`.
  Status reserve_rotations(std::uint32_t count);
  kernels::AttentionShape shape(std::uint32_t layer) const;
  const kernels::CacheBlock* table_of(const Run& run) const {
    return tables.as<kernels::CacheBlock>() + run.table;
  }

  cuda::DeviceBuffer rotations_;  // F32 pairs [rotated_positions_, rotated / 2]
  std::uint32_t rotated_positions_ = 0;
};

}  // namespace kvferry::ampere
