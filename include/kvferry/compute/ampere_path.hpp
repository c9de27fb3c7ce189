// path::AmpereInt8: INT8 products on tensor cores, weights and inputs rotated by blocks before they
// are quantised; F16 attention; the residual stream is F32. For CUDA devices from sm_80 on.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "kvferry/compute/cuda/device_buffer.hpp"
#include "kvferry/compute/cuda/device_memory.hpp"
#include "kvferry/compute/path.hpp"
#include "kvferry/core/thread_pool.hpp"
#include "kvferry/model/config.hpp"
#include "kvferry/model/weights.hpp"

namespace kvferry {

namespace ampere {
struct Device;  // buffers, stream and what else only CUDA code can name
}

template <>
class Compute<path::AmpereInt8> {
 public:
  static constexpr const char* kName = "ampere-int8";
  static constexpr ElementType kCacheType = ElementType::kF16;

  // A matrix as ampere::Int8Matrix converts it, on the device.
  struct Matrix {
    cuda::DeviceBuffer quants;  // int8 [rows, padded]
    cuda::DeviceBuffer scales;  // F32 [rows]
    int rows = 0;
    int columns = 0;
    int padded = 0;
    int block = 1;  // of the rotation that its inputs take
  };
  // Vectors are F32 on the device; none where the model has none.
  struct Layer {
    cuda::DeviceBuffer attn_norm, ffn_norm;  // [hidden]
    Matrix qkv;                              // channels in pairs, where heads are not normed
    cuda::DeviceBuffer qkv_bias;             // [qkv.rows], in that order
    cuda::DeviceBuffer q_norm, k_norm;       // [head_dim]
    Matrix o;
    Matrix gate_up;  // rows of both by turns
    Matrix down;
  };
  // Looked up on the host: a prefill chunk takes few of its rows.
  struct Embedding {
    std::vector<std::uint8_t> bytes;
    TensorView table;  // [vocab, hidden], of `bytes`
  };
  struct Head {
    cuda::DeviceBuffer norm;  // [hidden]
    Matrix matrix;            // [vocab, hidden]
  };

  // kInvalidArgument for weights that cannot be converted, kResourceExhausted when the device has
  // no room; both with the name of the matrix.
  static Result<Layer> load_layer(const ModelConfig& config, const LayerWeights& weights,
                                  ThreadPool& pool);
  static Result<Embedding> load_embedding(const ModelConfig& config, const TensorView& table,
                                          ThreadPool& pool);
  static Result<Head> load_head(const ModelConfig& config, const ModelWeights& weights,
                                const Embedding* embedding, ThreadPool& pool);
  static std::shared_ptr<KvMemory> cache_memory() { return cuda::DeviceMemory::get(); }
  // kUnsupported unless it is a cache of F16 in the device's memory.
  static Status check_cache(const KvPool& pool);

  // kUnsupported for a device before sm_80 and for heads of other than 64 or 128 values.
  static Result<Compute> create(const ModelConfig& config, ThreadPool& pool);
  Compute(Compute&&) noexcept;
  Compute& operator=(Compute&&) = delete;
  ~Compute();

  Status begin(const Batch& batch, const KvGeometry& geometry);
  void embed(const Embedding& embedding);
  void set_hidden(Span<const float> hidden);
  void get_hidden(Span<float> hidden);
  void store_kv(const Layer& layer, std::uint32_t index);
  void token_attention(std::uint32_t index, std::size_t queries, Span<float> out);
  // Errors of any operation before it are its own.
  Fence fence();
  void keep_from(std::size_t row) { first_row_ = row; }
  void attend(const Layer& layer, std::uint32_t index);
  void feed_forward(const Layer& layer);
  void logits(const Head& head, std::size_t row, Span<float> out);

 private:
  explicit Compute(const ModelConfig& config);

  std::unique_ptr<ampere::Device> device_;
  std::size_t first_row_ = 0;
};

}  // namespace kvferry
