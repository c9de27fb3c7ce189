#include "kvferry/compute/cpu_path.hpp"

#include <algorithm>
#include <cmath>
#include <string>
#include <utility>

#include "load_vector.hpp"

namespace kvferry {
namespace {

using cpu::ActivationFormat;
using cpu::PackedMatrix;

// How the inputs of the products are rounded. SmolLM2-135M Q4_1, 41 prompts of 64 greedy steps, KL
// against path::Reference (mean, p99) when these inputs are 16-bit and the others 8-bit:
//   none 0.0030, 0.021; o 0.0030; head 0.0025; down 0.0024; gate and up 0.0023; q, k, v 0.0018;
//   q, k, v and head 0.0013; and down 0.0007, 0.004; and o 0.0007; all 0.00000.
// They cost twice the multiplications: 16 % of a layer's for q, k, v, 25 % for down, 50 % for gate
// and up, where it would pay least.
constexpr ActivationFormat kQkvInputs = ActivationFormat::kInt16;
constexpr ActivationFormat kOutputInputs = ActivationFormat::kInt8;
constexpr ActivationFormat kGateUpInputs = ActivationFormat::kInt8;
constexpr ActivationFormat kDownInputs = ActivationFormat::kInt16;
constexpr ActivationFormat kHeadInputs = ActivationFormat::kInt16;

Status pack(const char* name, const TensorView& view, ThreadPool& pool, PackedMatrix& out) {
  Result<PackedMatrix> matrix = PackedMatrix::pack(view, pool);
  if (!matrix.ok()) {
    return Error(matrix.error().code, std::string(name) + ": " + matrix.error().message);
  }
  out = *std::move(matrix);
  return Status();
}

const float* data_or_null(const std::vector<float>& values) {
  return values.empty() ? nullptr : values.data();
}

}  // namespace

Result<Compute<path::Cpu>::Layer> Compute<path::Cpu>::load_layer(const ModelConfig&,
                                                                 const LayerWeights& weights,
                                                                 ThreadPool& pool) {
  Layer layer;
  KVFERRY_TRY(pack("attn_q", weights.q, pool, layer.q));
  KVFERRY_TRY(pack("attn_k", weights.k, pool, layer.k));
  KVFERRY_TRY(pack("attn_v", weights.v, pool, layer.v));
  KVFERRY_TRY(pack("attn_output", weights.o, pool, layer.o));
  KVFERRY_TRY(pack("ffn_gate", weights.gate, pool, layer.gate));
  KVFERRY_TRY(pack("ffn_up", weights.up, pool, layer.up));
  KVFERRY_TRY(pack("ffn_down", weights.down, pool, layer.down));
  layer.attn_norm = load_vector(weights.attn_norm);
  layer.ffn_norm = load_vector(weights.ffn_norm);
  layer.q_bias = load_vector(weights.q_bias);
  layer.k_bias = load_vector(weights.k_bias);
  layer.v_bias = load_vector(weights.v_bias);
  layer.q_norm = load_vector(weights.q_norm);
  layer.k_norm = load_vector(weights.k_norm);
  return layer;
}

Result<Compute<path::Cpu>::Embedding> Compute<path::Cpu>::load_embedding(const ModelConfig&,
                                                                         const TensorView& table,
                                                                         ThreadPool& pool) {
  PackedMatrix matrix;
  KVFERRY_TRY(pack("token_embd", table, pool, matrix));
  return Embedding{std::make_shared<const PackedMatrix>(std::move(matrix))};
}

Result<Compute<path::Cpu>::Head> Compute<path::Cpu>::load_head(const ModelConfig&,
                                                               const ModelWeights& weights,
                                                               const Embedding* embedding,
                                                               ThreadPool& pool) {
  Head head;
  head.norm = load_vector(weights.output_norm);
  if (weights.tied && embedding != nullptr) {
    head.matrix = embedding->table;
    return head;
  }
  PackedMatrix matrix;
  KVFERRY_TRY(pack("output", weights.output, pool, matrix));
  head.matrix = std::make_shared<const PackedMatrix>(std::move(matrix));
  return head;
}

Result<Compute<path::Cpu>> Compute<path::Cpu>::create(const ModelConfig& config, ThreadPool& pool) {
  KVFERRY_ASSIGN(const cpu::Kernels* kernels, cpu::active_kernels());
  return Compute(config, pool, *kernels);
}

Status Compute<path::Cpu>::begin(const Batch& batch, const KvGeometry& geometry) {
  layout_ = KvBlockLayout(geometry);
  type_ = geometry.type;
  first_row_ = 0;
  tokens_.clear();
  positions_.clear();
  queries_.clear();
  for (const BatchRun& run : batch) {
    tokens_.insert(tokens_.end(), run.tokens.begin(), run.tokens.end());
    for (std::size_t i = 0; i < run.tokens.size(); ++i) {
      positions_.push_back(run.begin + static_cast<std::uint32_t>(i));
      queries_.push_back({run.blocks.data(), positions_.back()});
    }
  }
  angles_.compute(config_.rope, positions_);
  const std::size_t n = tokens_.size();
  const std::size_t q_width = std::size_t{config_.heads} * config_.head_dim;
  const std::size_t kv_width = std::size_t{config_.kv_heads} * config_.head_dim;
  hidden_.resize(n * config_.hidden);
  normed_.resize(n * config_.hidden);
  q_.resize(n * q_width);
  attention_.resize(n * q_width);
  k_.resize(n * kv_width);
  v_.resize(n * kv_width);
  gate_.resize(n * config_.ffn);
  up_.resize(n * config_.ffn);
  return Status();
}

void Compute<path::Cpu>::embed(const Embedding& embedding) {
  for (std::size_t r = 0; r < tokens_.size(); ++r)
    embedding.table->unpack_row(tokens_[r], hidden(r));
}

void Compute<path::Cpu>::set_hidden(Span<const float> hidden) {
  std::copy(hidden.begin(), hidden.end(), hidden_.begin());
}

void Compute<path::Cpu>::get_hidden(Span<float> hidden) const {
  std::copy(hidden_.begin(), hidden_.end(), hidden.begin());
}

void Compute<path::Cpu>::take_inputs(const float* x, std::size_t rows, ActivationFormat format,
                                     std::initializer_list<const PackedMatrix*> matrices) {
  bool integers = false;
  bool floats = false;
  for (const PackedMatrix* m : matrices) {
    (cpu::activation_format_for(m->format(), format) == ActivationFormat::kF32 ? floats
                                                                               : integers) = true;
  }
  const std::size_t columns = (*matrices.begin())->columns();
  if (integers) {
    inputs_.integers.resize(rows, columns, format);
    cpu::quantize(kernels_, pool_, x, columns, inputs_.integers);
  }
  if (floats) {
    inputs_.floats.resize(rows, columns, ActivationFormat::kF32);
    cpu::quantize(kernels_, pool_, x, columns, inputs_.floats);
  }
}

cpu::Product Compute<path::Cpu>::product(const PackedMatrix& matrix, float* out) const {
  cpu::Product p;
  p.matrix = &matrix;
  p.input = matrix.format() == cpu::WeightFormat::kF16 ? &inputs_.floats : &inputs_.integers;
  p.out = out;
  p.out_stride = matrix.rows();
  return p;
}

// normed_[i] = the norm of hidden(first + i).
void Compute<path::Cpu>::norm(const std::vector<float>& weight, std::size_t first,
                              std::size_t rows) {
  cpu::rms_norm(kernels_, pool_, rows, config_.hidden, hidden(first), config_.hidden, weight.data(),
                config_.norm_epsilon, normed_.data(), config_.hidden);
}

void Compute<path::Cpu>::store_kv(const Layer& layer, std::uint32_t index) {
  const std::size_t rows = tokens_.size();
  const std::size_t width = config_.head_dim;
  norm(layer.attn_norm, 0, rows);
  take_inputs(normed_.data(), rows, kQkvInputs, {&layer.q, &layer.k, &layer.v});
  cpu::Product products[] = {product(layer.q, q_.data()), product(layer.k, k_.data()),
                             product(layer.v, v_.data())};
  products[0].bias = data_or_null(layer.q_bias);
  products[1].bias = data_or_null(layer.k_bias);
  products[2].bias = data_or_null(layer.v_bias);
  cpu::multiply(kernels_, pool_, products);

  const auto finish = [&](std::vector<float>& x, std::size_t heads,
                          const std::vector<float>& head_norm) {
    if (!head_norm.empty()) {
      cpu::rms_norm(kernels_, pool_, rows * heads, width, x.data(), width, head_norm.data(),
                    config_.norm_epsilon, x.data(), width);
    }
    cpu::rope(kernels_, pool_, angles_, heads, width, x.data(), heads * width);
  };
  finish(q_, config_.heads, layer.q_norm);
  finish(k_, config_.kv_heads, layer.k_norm);

  const std::size_t key_tile = layout_.tile_offset(index, Plane::kKey, 0);
  const std::size_t value_tile = layout_.tile_offset(index, Plane::kValue, 0);
  pool_.parallel_for(rows, 32, [&](std::size_t begin, std::size_t end, std::size_t) {
    for (std::size_t r = begin; r < end; ++r) {
      // The rows of the batch are the caller's to write; queries only read.
      std::uint8_t* token =
          const_cast<std::uint8_t*>(queries_[r].blocks[positions_[r] / kBlockTokens]) +
          positions_[r] % kBlockTokens * layout_.head_bytes;
      for (std::size_t h = 0; h < config_.kv_heads; ++h, token += layout_.tile_bytes) {
        const std::size_t head = (r * config_.kv_heads + h) * width;
        cpu::store_values(kernels_, type_, k_.data() + head, width, token + key_tile);
        cpu::store_values(kernels_, type_, v_.data() + head, width, token + value_tile);
      }
    }
  });
}

cpu::AttentionShape Compute<path::Cpu>::attention_shape(std::uint32_t index) const {
  cpu::AttentionShape shape;
  shape.heads = config_.heads;
  shape.kv_heads = config_.kv_heads;
  shape.head_dim = config_.head_dim;
  shape.type = type_;
  shape.scale = 1.0f / std::sqrt(static_cast<float>(config_.head_dim));
  shape.key_offset = layout_.tile_offset(index, Plane::kKey, 0);
  shape.value_offset = layout_.tile_offset(index, Plane::kValue, 0);
  return shape;
}

void Compute<path::Cpu>::token_attention(std::uint32_t index, std::size_t queries,
                                         Span<float> out) {
  const std::size_t first = queries_.size() - std::min(queries, queries_.size());
  const float* q = q_.data() + first * config_.heads * config_.head_dim;
  cpu::attention_squares(kernels_, pool_, attention_shape(index),
                         Span<const cpu::AttentionQuery>(queries_).subspan(first), q,
                         positions_.front(), out, attention_workspace_);
}

void Compute<path::Cpu>::attend(const Layer& layer, std::uint32_t index) {
  const std::size_t q_width = std::size_t{config_.heads} * config_.head_dim;
  cpu::attention(kernels_, pool_, attention_shape(index),
                 Span<const cpu::AttentionQuery>(queries_).subspan(first_row_),
                 q_.data() + first_row_ * q_width, attention_.data(), attention_workspace_);
  take_inputs(attention_.data(), rows_left(), kOutputInputs, {&layer.o});
  cpu::Product output = product(layer.o, hidden(first_row_));
  output.accumulate = true;
  cpu::multiply(kernels_, pool_, Span<const cpu::Product>(&output, 1));
}

void Compute<path::Cpu>::feed_forward(const Layer& layer) {
  norm(layer.ffn_norm, first_row_, rows_left());
  take_inputs(normed_.data(), rows_left(), kGateUpInputs, {&layer.gate, &layer.up});
  const cpu::Product products[] = {product(layer.gate, gate_.data()),
                                   product(layer.up, up_.data())};
  cpu::multiply(kernels_, pool_, products);
  cpu::swiglu(kernels_, pool_, rows_left(), config_.ffn, gate_.data(), up_.data(), gate_.data());
  take_inputs(gate_.data(), rows_left(), kDownInputs, {&layer.down});
  cpu::Product down = product(layer.down, hidden(first_row_));
  down.accumulate = true;
  cpu::multiply(kernels_, pool_, Span<const cpu::Product>(&down, 1));
}

void Compute<path::Cpu>::logits(const Head& head, std::size_t row, Span<float> out) {
  const std::size_t rows = out.size() / config_.vocab;
  norm(head.norm, row, rows);
  take_inputs(normed_.data(), rows, kHeadInputs, {head.matrix.get()});
  const cpu::Product product_of_head = product(*head.matrix, out.data());
  cpu::multiply(kernels_, pool_, Span<const cpu::Product>(&product_of_head, 1));
}

}  // namespace kvferry
