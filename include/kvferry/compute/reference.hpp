// path::Reference: F32 throughout, over dequantised weights and an F32 cache. The other paths are
// measured against it, so everything but the matrix product and the attention's inner loops is
// written to be read.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "kvferry/compute/path.hpp"
#include "kvferry/compute/reference_product.hpp"
#include "kvferry/core/thread_pool.hpp"
#include "kvferry/model/config.hpp"
#include "kvferry/model/weights.hpp"

namespace kvferry {

template <>
class Compute<path::Reference> {
 public:
  static constexpr const char* kName = "reference";
  static constexpr ElementType kCacheType = ElementType::kF32;

  struct Layer {
    std::vector<float> attn_norm, ffn_norm;  // [hidden]
    ReferenceMatrix q, k, v, o, gate, up, down;
    std::vector<float> q_bias, k_bias, v_bias;  // as long as the matrix has rows, or empty
    std::vector<float> q_norm, k_norm;          // [head_dim] or empty
  };
  struct Embedding {
    std::shared_ptr<const ReferenceMatrix> table;  // [vocab, hidden]
  };
  struct Head {
    std::vector<float> norm;                        // [hidden]
    std::shared_ptr<const ReferenceMatrix> matrix;  // [vocab, hidden]
  };

  static Result<Layer> load_layer(const ModelConfig& config, const LayerWeights& weights,
                                  ThreadPool& pool);
  static Result<Embedding> load_embedding(const ModelConfig& config, const TensorView& table,
                                          ThreadPool& pool);
  static Result<Head> load_head(const ModelConfig& config, const ModelWeights& weights,
                                const Embedding* embedding, ThreadPool& pool);
  static std::shared_ptr<KvMemory> cache_memory() { return HostMemory::get(); }
  // kUnsupported unless the cache holds F32.
  static Status check_cache(const KvPool& pool);

  static Result<Compute> create(const ModelConfig& config, ThreadPool& pool) {
    return Compute(config, pool);
  }

  Status begin(const Batch& batch, const KvGeometry& geometry);
  void embed(const Embedding& embedding);
  void set_hidden(Span<const float> hidden);
  void get_hidden(Span<float> hidden) const;
  void store_kv(const Layer& layer, std::uint32_t index);
  void token_attention(std::uint32_t index, std::size_t queries, Span<float> out);
  Fence fence() { return Fence(); }
  void keep_from(std::size_t row) { first_row_ = row; }
  void attend(const Layer& layer, std::uint32_t index);
  // Of the last store_kv, after RoPE: [rows, heads, head_dim].
  Span<const float> queries() const { return q_; }
  void feed_forward(const Layer& layer);
  void logits(const Head& head, std::size_t row, Span<float> out);

 private:
  struct Row {
    TokenId token = 0;
    std::uint32_t position = 0;
    std::uint8_t* const* blocks = nullptr;
  };

  Compute(const ModelConfig& config, ThreadPool& pool) : config_(config), pool_(pool) {}

  void multiply(const ReferenceMatrix& matrix, const std::vector<float>& x, std::size_t rows,
                std::vector<float>& out);
  void norm_rows(const std::vector<float>& weight, std::size_t first, std::size_t rows);
  void rotate(std::size_t row, float* head) const;
  // Sets key_offset_ and value_offset_.
  void select_layer(std::uint32_t index);
  // weights = exp(score - largest score) of all tokens up to the row's own; gives their sum.
  double exponential_weights(const Row& row, std::uint32_t kv_head, const float* q,
                             std::vector<float>& weights) const;
  const float* tile_at(const Row& row, std::size_t offset, std::uint32_t kv_head,
                       std::size_t token) const;
  void attend_head(const Row& row, std::uint32_t kv_head, const float* q, float* out,
                   std::vector<float>& weights) const;

  const ModelConfig& config_;
  ThreadPool& pool_;
  std::vector<Row> rows_;
  std::size_t first_row_ = 0;
  KvBlockLayout layout_{KvGeometry{}};
  std::size_t key_offset_ = 0;  // of the layer that is attended to, in a block
  std::size_t value_offset_ = 0;
  std::vector<float> cosines_, sines_;  // [rows, rotated pairs], times the attention scale
  std::vector<float> hidden_;           // [rows, hidden]: the residual stream
  std::vector<float> normed_;           // [rows, hidden]
  std::vector<float> q_, k_, v_;        // [rows, heads or kv_heads, head_dim]
  std::vector<float> attention_;        // [rows, heads, head_dim]
  std::vector<float> gate_, up_;        // [rows, ffn]
  std::vector<float> product_;          // [rows, hidden]
  std::vector<float> packed_;           // of multiply_blocked
};

}  // namespace kvferry
