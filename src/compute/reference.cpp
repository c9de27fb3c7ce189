#include "kvferry/compute/reference.hpp"

#include <algorithm>
#include <cmath>
#include <string>

#include "load_vector.hpp"
#include "reference_kernels.hpp"

namespace kvferry {
namespace {

// out[i] = x[i] / sqrt(mean of x² + epsilon) * weight[i]; may be in place.
void rms_norm(const float* x, const std::vector<float>& weight, float epsilon, float* out) {
  const std::size_t n = weight.size();
  double squares = 0.0;
  for (std::size_t i = 0; i < n; ++i) squares += static_cast<double>(x[i]) * x[i];
  const float scale =
      static_cast<float>(1.0 / std::sqrt(squares / static_cast<double>(n) + epsilon));
  for (std::size_t i = 0; i < n; ++i) out[i] = x[i] * scale * weight[i];
}

void add(const std::vector<float>& x, float* to) {
  for (std::size_t i = 0; i < x.size(); ++i) to[i] += x[i];
}

}  // namespace

Result<Compute<path::Reference>::Layer> Compute<path::Reference>::load_layer(
    const ModelConfig&, const LayerWeights& weights, ThreadPool& pool) {
  Layer layer;
  const auto matrix = [&](const TensorView& view, ReferenceMatrix& out) -> Status {
    KVFERRY_ASSIGN(out, ReferenceMatrix::load(view, pool));
    return Status();
  };
  KVFERRY_TRY(matrix(weights.q, layer.q));
  KVFERRY_TRY(matrix(weights.k, layer.k));
  KVFERRY_TRY(matrix(weights.v, layer.v));
  KVFERRY_TRY(matrix(weights.o, layer.o));
  KVFERRY_TRY(matrix(weights.gate, layer.gate));
  KVFERRY_TRY(matrix(weights.up, layer.up));
  KVFERRY_TRY(matrix(weights.down, layer.down));
  layer.attn_norm = load_vector(weights.attn_norm);
  layer.ffn_norm = load_vector(weights.ffn_norm);
  layer.q_bias = load_vector(weights.q_bias);
  layer.k_bias = load_vector(weights.k_bias);
  layer.v_bias = load_vector(weights.v_bias);
  layer.q_norm = load_vector(weights.q_norm);
  layer.k_norm = load_vector(weights.k_norm);
  return layer;
}

Result<Compute<path::Reference>::Embedding> Compute<path::Reference>::load_embedding(
    const ModelConfig&, const TensorView& table, ThreadPool& pool) {
  KVFERRY_ASSIGN(ReferenceMatrix matrix, ReferenceMatrix::load(table, pool));
  return Embedding{std::make_shared<const ReferenceMatrix>(std::move(matrix))};
}

Result<Compute<path::Reference>::Head> Compute<path::Reference>::load_head(
    const ModelConfig&, const ModelWeights& weights, const Embedding* embedding, ThreadPool& pool) {
  Head head;
  head.norm = load_vector(weights.output_norm);
  if (weights.tied && embedding != nullptr) {
    head.matrix = embedding->table;
    return head;
  }
  KVFERRY_ASSIGN(ReferenceMatrix matrix, ReferenceMatrix::load(weights.output, pool));
  head.matrix = std::make_shared<const ReferenceMatrix>(std::move(matrix));
  return head;
}

Status Compute<path::Reference>::check_cache(const KvPool& pool) {
  if (pool.geometry().type == ElementType::kF32) return check_memory(kName, pool, *cache_memory());
  return Error(ErrorCode::kUnsupported, std::string("the path `reference` computes on a cache of "
                                                    "f32, not of ") +
                                            name_of(pool.geometry().type));
}

Status Compute<path::Reference>::begin(const Batch& batch, const KvGeometry& geometry) {
  layout_ = KvBlockLayout(geometry);
  first_row_ = 0;
  rows_.clear();
  for (const BatchRun& run : batch) {
    for (std::size_t i = 0; i < run.tokens.size(); ++i) {
      rows_.push_back(
          {run.tokens[i], run.begin + static_cast<std::uint32_t>(i), run.blocks.data()});
    }
  }
  const RopeSpec& rope = config_.rope;
  cosines_.clear();
  sines_.clear();
  for (const Row& row : rows_) {
    for (const float frequency : rope.inverse_frequency) {
      const double angle = static_cast<double>(row.position) * static_cast<double>(frequency);
      cosines_.push_back(static_cast<float>(std::cos(angle) * rope.attention_scale));
      sines_.push_back(static_cast<float>(std::sin(angle) * rope.attention_scale));
    }
  }
  const std::size_t n = rows_.size();
  const std::size_t q_width = std::size_t{config_.heads} * config_.head_dim;
  const std::size_t kv_width = std::size_t{config_.kv_heads} * config_.head_dim;
  hidden_.resize(n * config_.hidden);
  normed_.resize(n * config_.hidden);
  product_.resize(n * config_.hidden);
  q_.resize(n * q_width);
  attention_.resize(n * q_width);
  k_.resize(n * kv_width);
  v_.resize(n * kv_width);
  gate_.resize(n * config_.ffn);
  up_.resize(n * config_.ffn);
  return Status();
}

void Compute<path::Reference>::embed(const Embedding& embedding) {
  for (std::size_t r = 0; r < rows_.size(); ++r) {
    for (std::size_t i = 0; i < config_.hidden; ++i)
      hidden_[r * config_.hidden + i] = embedding.table->at(rows_[r].token, i);
  }
}

void Compute<path::Reference>::set_hidden(Span<const float> hidden) {
  std::copy(hidden.begin(), hidden.end(), hidden_.begin());
}

void Compute<path::Reference>::get_hidden(Span<float> hidden) const {
  std::copy(hidden_.begin(), hidden_.end(), hidden.begin());
}

void Compute<path::Reference>::multiply(const ReferenceMatrix& matrix, const std::vector<float>& x,
                                        std::size_t rows, std::vector<float>& out) {
  multiply_blocked(matrix, x.data(), rows, out.data(), matrix.rows(), pool_, packed_);
}

// normed[i] = the norm of hidden[first + i].
void Compute<path::Reference>::norm_rows(const std::vector<float>& weight, std::size_t first,
                                         std::size_t rows) {
  pool_.parallel_for(rows, 8, [&](std::size_t begin, std::size_t end, std::size_t) {
    for (std::size_t i = begin; i < end; ++i) {
      rms_norm(hidden_.data() + (first + i) * config_.hidden, weight, config_.norm_epsilon,
               normed_.data() + i * config_.hidden);
    }
  });
}

void Compute<path::Reference>::rotate(std::size_t row, float* head) const {
  const std::size_t pairs = config_.rope.inverse_frequency.size();
  const bool interleaved = config_.rope.layout == RopeLayout::kInterleaved;
  for (std::size_t i = 0; i < pairs; ++i) {
    float& a = head[interleaved ? 2 * i : i];
    float& b = head[interleaved ? 2 * i + 1 : i + pairs];
    const float c = cosines_[row * pairs + i];
    const float s = sines_[row * pairs + i];
    const float rotated = a * c - b * s;
    b = a * s + b * c;
    a = rotated;
  }
}

void Compute<path::Reference>::store_kv(const Layer& layer, std::uint32_t index) {
  norm_rows(layer.attn_norm, 0, rows_.size());
  multiply(layer.q, normed_, rows_.size(), q_);
  multiply(layer.k, normed_, rows_.size(), k_);
  multiply(layer.v, normed_, rows_.size(), v_);
  const std::size_t width = config_.head_dim;
  pool_.parallel_for(rows_.size(), 8, [&](std::size_t begin, std::size_t end, std::size_t) {
    for (std::size_t r = begin; r < end; ++r) {
      float* q = q_.data() + r * config_.heads * width;
      float* k = k_.data() + r * config_.kv_heads * width;
      float* v = v_.data() + r * config_.kv_heads * width;
      add(layer.q_bias, q);
      add(layer.k_bias, k);
      add(layer.v_bias, v);
      for (std::uint32_t h = 0; h < config_.heads; ++h) {
        float* head = q + h * width;
        if (!layer.q_norm.empty()) rms_norm(head, layer.q_norm, config_.norm_epsilon, head);
        rotate(r, head);
      }
      const std::uint32_t position = rows_[r].position;
      std::uint8_t* token =
          rows_[r].blocks[position / kBlockTokens] + position % kBlockTokens * layout_.head_bytes;
      for (std::uint32_t h = 0; h < config_.kv_heads; ++h) {
        float* head = k + h * width;
        if (!layer.k_norm.empty()) rms_norm(head, layer.k_norm, config_.norm_epsilon, head);
        rotate(r, head);
        std::copy_n(head, width,
                    reinterpret_cast<float*>(token + layout_.tile_offset(index, Plane::kKey, h)));
        std::copy_n(v + h * width, width,
                    reinterpret_cast<float*>(token + layout_.tile_offset(index, Plane::kValue, h)));
      }
    }
  });
}

void Compute<path::Reference>::select_layer(std::uint32_t index) {
  key_offset_ = layout_.tile_offset(index, Plane::kKey, 0);
  value_offset_ = layout_.tile_offset(index, Plane::kValue, 0);
}

const float* Compute<path::Reference>::tile_at(const Row& row, std::size_t offset,
                                               std::uint32_t kv_head, std::size_t token) const {
  return reinterpret_cast<const float*>(row.blocks[token / kBlockTokens] + offset +
                                        kv_head * layout_.tile_bytes);
}

double Compute<path::Reference>::exponential_weights(const Row& row, std::uint32_t kv_head,
                                                     const float* q,
                                                     std::vector<float>& weights) const {
  const std::size_t width = config_.head_dim;
  const std::size_t tokens = std::size_t{row.position} + 1;
  const float scale = 1.0f / std::sqrt(static_cast<float>(width));
  weights.resize(tokens);
  for (std::size_t t = 0; t < tokens; t += kBlockTokens) {
    reference::kernels().scores(q, tile_at(row, key_offset_, kv_head, t),
                                std::min<std::size_t>(kBlockTokens, tokens - t), width, scale,
                                weights.data() + t);
  }
  const float largest = *std::max_element(weights.begin(), weights.end());
  double sum = 0.0;
  for (float& w : weights) {
    w = std::exp(w - largest);
    sum += static_cast<double>(w);
  }
  return sum;
}

void Compute<path::Reference>::attend_head(const Row& row, std::uint32_t kv_head, const float* q,
                                           float* out, std::vector<float>& weights) const {
  const std::size_t width = config_.head_dim;
  const double sum = exponential_weights(row, kv_head, q, weights);
  std::fill_n(out, width, 0.0f);
  for (std::size_t t = 0; t < weights.size(); t += kBlockTokens) {
    reference::kernels().weighted_sum(weights.data() + t, tile_at(row, value_offset_, kv_head, t),
                                      std::min<std::size_t>(kBlockTokens, weights.size() - t),
                                      width, out);
  }
  const float normaliser = static_cast<float>(1.0 / sum);
  for (std::size_t i = 0; i < width; ++i) out[i] *= normaliser;
}

void Compute<path::Reference>::token_attention(std::uint32_t index, std::size_t queries,
                                               Span<float> out) {
  select_layer(index);
  const std::size_t rows = rows_.size();
  const std::size_t first_query = rows - std::min(queries, rows);
  const std::size_t width = config_.head_dim;
  // Each head adds up its own squares, in the order of the queries.
  std::vector<double> squares(config_.heads * rows, 0.0);
  pool_.parallel_for(config_.heads, 1, [&](std::size_t begin, std::size_t end, std::size_t) {
    std::vector<float> weights;
    for (std::size_t h = begin; h < end; ++h) {
      const auto kv_head = static_cast<std::uint32_t>(h / (config_.heads / config_.kv_heads));
      for (std::size_t r = first_query; r < rows; ++r) {
        const float* q = q_.data() + (r * config_.heads + h) * width;
        const double sum = exponential_weights(rows_[r], kv_head, q, weights);
        for (std::size_t t = 0; t <= r; ++t) {
          const double a = static_cast<double>(weights[rows_[t].position]) / sum;
          squares[h * rows + t] += a * a;
        }
      }
    }
  });
  for (std::size_t t = 0; t < rows; ++t) {
    double sum = 0.0;
    for (std::size_t h = 0; h < config_.heads; ++h) sum += squares[h * rows + t];
    const std::size_t seeing = rows - std::max(first_query, t);
    out[t] = static_cast<float>(sum / static_cast<double>(seeing * config_.heads));
  }
}

void Compute<path::Reference>::attend(const Layer& layer, std::uint32_t index) {
  select_layer(index);
  const std::size_t rows = rows_.size() - first_row_;
  const std::size_t width = config_.head_dim;
  pool_.parallel_for(rows * config_.heads, 4, [&](std::size_t begin, std::size_t end, std::size_t) {
    std::vector<float> weights;
    for (std::size_t i = begin; i < end; ++i) {
      const std::uint32_t head = static_cast<std::uint32_t>(i % config_.heads);
      attend_head(rows_[first_row_ + i / config_.heads], head / (config_.heads / config_.kv_heads),
                  q_.data() + first_row_ * config_.heads * width + i * width,
                  attention_.data() + i * width, weights);
    }
  });
  multiply(layer.o, attention_, rows, product_);
  for (std::size_t i = 0; i < rows * config_.hidden; ++i)
    hidden_[first_row_ * config_.hidden + i] += product_[i];
}

void Compute<path::Reference>::feed_forward(const Layer& layer) {
  const std::size_t rows = rows_.size() - first_row_;
  norm_rows(layer.ffn_norm, first_row_, rows);
  multiply(layer.gate, normed_, rows, gate_);
  multiply(layer.up, normed_, rows, up_);
  pool_.parallel_for(rows, 8, [&](std::size_t begin, std::size_t end, std::size_t) {
    for (std::size_t i = begin * config_.ffn; i < end * config_.ffn; ++i)
      gate_[i] = gate_[i] / (1.0f + std::exp(-gate_[i])) * up_[i];
  });
  multiply(layer.down, gate_, rows, product_);
  for (std::size_t i = 0; i < rows * config_.hidden; ++i)
    hidden_[first_row_ * config_.hidden + i] += product_[i];
}

void Compute<path::Reference>::logits(const Head& head, std::size_t row, Span<float> out) {
  const std::size_t rows = out.size() / config_.vocab;
  norm_rows(head.norm, row, rows);
  multiply_blocked(*head.matrix, normed_.data(), rows, out.data(), config_.vocab, pool_, packed_);
}

}  // namespace kvferry
