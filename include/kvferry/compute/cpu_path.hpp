// path::Cpu: weights stay quantised, inputs of products are rounded to whole numbers group by
// group, the rest is F32; the cache is F16, BF16 or F32. Its kernels are in compute/cpu/.
#pragma once

#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <memory>
#include <vector>

#include "kvferry/compute/cpu/attention.hpp"
#include "kvferry/compute/cpu/elementwise.hpp"
#include "kvferry/compute/cpu/packed_matrix.hpp"
#include "kvferry/compute/cpu/product.hpp"
#include "kvferry/compute/path.hpp"
#include "kvferry/core/thread_pool.hpp"
#include "kvferry/model/config.hpp"
#include "kvferry/model/weights.hpp"

namespace kvferry {

template <>
class Compute<path::Cpu> {
 public:
  static constexpr const char* kName = "cpu";
  static constexpr ElementType kCacheType = ElementType::kF16;

  struct Layer {
    std::vector<float> attn_norm, ffn_norm;  // [hidden]
    cpu::PackedMatrix q, k, v, o, gate, up, down;
    std::vector<float> q_bias, k_bias, v_bias;  // as long as the matrix has rows, or empty
    std::vector<float> q_norm, k_norm;          // [head_dim] or empty
  };
  struct Embedding {
    std::shared_ptr<const cpu::PackedMatrix> table;  // [vocab, hidden]
  };
  struct Head {
    std::vector<float> norm;                          // [hidden]
    std::shared_ptr<const cpu::PackedMatrix> matrix;  // [vocab, hidden]
  };

  // kInvalidArgument for weights that cannot be repacked, with the name of the matrix.
  static Result<Layer> load_layer(const ModelConfig& config, const LayerWeights& weights,
                                  ThreadPool& pool);
  static Result<Embedding> load_embedding(const ModelConfig& config, const TensorView& table,
                                          ThreadPool& pool);
  static Result<Head> load_head(const ModelConfig& config, const ModelWeights& weights,
                                const Embedding* embedding, ThreadPool& pool);
  static std::shared_ptr<KvMemory> cache_memory() { return HostMemory::get(); }
  // Any element type will do.
  static Status check_cache(const KvPool& pool) {
    return check_memory(kName, pool, *cache_memory());
  }

  // The errors of cpu::active_kernels().
  static Result<Compute> create(const ModelConfig& config, ThreadPool& pool);

  Status begin(const Batch& batch, const KvGeometry& geometry);
  void embed(const Embedding& embedding);
  void set_hidden(Span<const float> hidden);
  void get_hidden(Span<float> hidden) const;
  void store_kv(const Layer& layer, std::uint32_t index);
  void token_attention(std::uint32_t index, std::size_t queries, Span<float> out);
  Fence fence() { return Fence(); }
  void keep_from(std::size_t row) { first_row_ = row; }
  void attend(const Layer& layer, std::uint32_t index);
  void feed_forward(const Layer& layer);
  void logits(const Head& head, std::size_t row, Span<float> out);

 private:
  // The inputs of a product, in each format that one of its matrices needs.
  struct Inputs {
    cpu::Activations integers;
    cpu::Activations floats;
  };

  Compute(const ModelConfig& config, ThreadPool& pool, const cpu::Kernels& kernels)
      : config_(config), pool_(pool), kernels_(kernels) {}

  // inputs_ = x [rows, columns], as whole numbers of `format` where the matrices hold such.
  void take_inputs(const float* x, std::size_t rows, cpu::ActivationFormat format,
                   std::initializer_list<const cpu::PackedMatrix*> matrices);
  // inputs_ · matrixᵀ into `out`, rows matrix.rows() apart.
  cpu::Product product(const cpu::PackedMatrix& matrix, float* out) const;
  void norm(const std::vector<float>& weight, std::size_t first, std::size_t rows);
  cpu::AttentionShape attention_shape(std::uint32_t index) const;
  std::size_t rows_left() const { return queries_.size() - first_row_; }
  float* hidden(std::size_t row) { return hidden_.data() + row * config_.hidden; }

  const ModelConfig& config_;
  ThreadPool& pool_;
  const cpu::Kernels& kernels_;

  std::vector<TokenId> tokens_;               // [rows]
  std::vector<cpu::AttentionQuery> queries_;  // [rows]
  std::vector<std::uint32_t> positions_;      // [rows]
  std::size_t first_row_ = 0;
  KvBlockLayout layout_{KvGeometry{}};
  ElementType type_ = kCacheType;
  cpu::RopeAngles angles_;

  std::vector<float> hidden_;     // [rows, hidden]: the residual stream
  std::vector<float> normed_;     // [rows, hidden]
  std::vector<float> q_;          // [rows, heads, head_dim]
  std::vector<float> k_, v_;      // [rows, kv_heads, head_dim]
  std::vector<float> attention_;  // [rows, heads, head_dim]
  std::vector<float> gate_, up_;  // [rows, ffn]
  Inputs inputs_;
  cpu::AttentionWorkspace attention_workspace_;
};

}  // namespace kvferry
