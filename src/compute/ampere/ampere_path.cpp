#include "kvferry/compute/ampere_path.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <utility>

#include "kvferry/compute/ampere/int8_matrix.hpp"
#include "kvferry/compute/dequantise.hpp"
#include "kvferry/compute/device/hadamard_block.hpp"

#include "../load_vector.hpp"
#include "ampere_device.hpp"

namespace kvferry {
namespace {

using ampere::Int8Matrix;
using ampere::WeightRow;
using cuda::DeviceBuffer;
using Path = Compute<path::AmpereInt8>;

Result<DeviceBuffer> upload(const std::vector<float>& values, const std::string& what) {
  return DeviceBuffer::of(as_bytes(Span<const float>(values)), what);
}

Result<Path::Matrix> load_matrix(const char* name, Span<const WeightRow> rows, int limit,
                                 ThreadPool& pool) {
  Result<Int8Matrix> converted = Int8Matrix::quantize(rows, limit, pool);
  if (!converted.ok()) {
    return Error(converted.error().code, std::string(name) + ": " + converted.error().message);
  }
  const Int8Matrix& from = converted.value();
  Path::Matrix m;
  m.rows = static_cast<int>(from.rows());
  m.columns = static_cast<int>(from.columns());
  m.padded = static_cast<int>(from.padded());
  m.block = from.block();
  KVFERRY_ASSIGN(
      m.quants,
      DeviceBuffer::of(
          as_bytes(Span<const std::int8_t>(from.quants(), from.rows() * from.padded())), name));
  KVFERRY_ASSIGN(m.scales,
                 DeviceBuffer::of(as_bytes(Span<const float>(from.scales(), from.rows())), name));
  return m;
}

// The biases of Q, K and V by channel, as many as `channels`; nothing when the model has none.
std::vector<float> biases_of(const LayerWeights& weights,
                             const std::vector<std::uint32_t>& channels) {
  std::vector<float> all;
  for (const TensorView* part : {&weights.q_bias, &weights.k_bias, &weights.v_bias}) {
    const std::vector<float> values = load_vector(*part);
    all.insert(all.end(), values.begin(), values.end());
  }
  std::vector<float> ordered;
  if (all.empty()) return ordered;
  ordered.reserve(channels.size());
  for (const std::uint32_t channel : channels) ordered.push_back(all[channel]);
  return ordered;
}

}  // namespace

Result<Path::Layer> Path::load_layer(const ModelConfig& config, const LayerWeights& weights,
                                     ThreadPool& pool) {
  Layer layer;
  KVFERRY_ASSIGN(layer.attn_norm, upload(load_vector(weights.attn_norm), "attn_norm"));
  KVFERRY_ASSIGN(layer.ffn_norm, upload(load_vector(weights.ffn_norm), "ffn_norm"));
  KVFERRY_ASSIGN(layer.q_norm, upload(load_vector(weights.q_norm), "attn_q_norm"));
  KVFERRY_ASSIGN(layer.k_norm, upload(load_vector(weights.k_norm), "attn_k_norm"));
  std::vector<std::uint32_t> channels = ampere::paired_channels(config);
  // Norms of heads are their own kernel's, which finds channels in the model's order.
  if (layer.q_norm.data() != nullptr) {
    for (std::size_t i = 0; i < channels.size(); ++i) channels[i] = static_cast<std::uint32_t>(i);
  }
  KVFERRY_ASSIGN(layer.qkv_bias, upload(biases_of(weights, channels), "attn_q.bias"));
  KVFERRY_ASSIGN(layer.qkv,
                 load_matrix("attn_q, attn_k, attn_v",
                             ampere::rows_of_channels(channels, weights.q, weights.k, weights.v),
                             kHiddenRotation, pool));
  KVFERRY_ASSIGN(layer.o, load_matrix("attn_output", ampere::rows_in_order(weights.o), 1, pool));
  KVFERRY_ASSIGN(layer.gate_up,
                 load_matrix("ffn_gate, ffn_up", ampere::gate_up_rows(weights.gate, weights.up),
                             kHiddenRotation, pool));
  KVFERRY_ASSIGN(layer.down,
                 load_matrix("ffn_down", ampere::rows_in_order(weights.down), kFfnRotation, pool));
  return layer;
}

Result<Path::Embedding> Path::load_embedding(const ModelConfig&, const TensorView& table,
                                             ThreadPool&) {
  Embedding embedding;
  embedding.bytes.assign(table.data.begin(), table.data.end());
  embedding.table = table;
  embedding.table.data = Bytes(embedding.bytes);
  return embedding;
}

Result<Path::Head> Path::load_head(const ModelConfig&, const ModelWeights& weights,
                                   const Embedding*, ThreadPool& pool) {
  Head head;
  KVFERRY_ASSIGN(head.norm, upload(load_vector(weights.output_norm), "output_norm"));
  KVFERRY_ASSIGN(head.matrix, load_matrix("output", ampere::rows_in_order(weights.output),
                                          kHiddenRotation, pool));
  return head;
}

Status Path::check_cache(const KvPool& pool) {
  if (pool.geometry().type == ElementType::kF16) return check_memory(kName, pool, *cache_memory());
  return Error(ErrorCode::kUnsupported, std::string("the path `") + kName +
                                            "` computes on a cache of f16, not of " +
                                            name_of(pool.geometry().type));
}

Result<Path> Path::create(const ModelConfig& config, ThreadPool&) {
  if (config.head_dim != 64 && config.head_dim != 128) {
    return Error(ErrorCode::kUnsupported, std::string("the path `") + kName +
                                              "` has kernels for heads of 64 and 128 "
                                              "values, the model's have " +
                                              std::to_string(config.head_dim) + "; use --path cpu");
  }
  Compute compute(config);
  KVFERRY_TRY(compute.device_->open());
  return compute;
}

Path::Compute(const ModelConfig& config) : device_(std::make_unique<ampere::Device>(config)) {}
Path::Compute(Compute&&) noexcept = default;
Path::~Compute() = default;

Status Path::begin(const Batch& batch, const KvGeometry& geometry) {
  first_row_ = 0;
  return device_->begin(batch, geometry);
}

void Path::embed(const Embedding& embedding) {
  const std::vector<TokenId>& tokens = device_->tokens;
  std::vector<float> rows(tokens.size() * embedding.table.columns);
  for (std::size_t r = 0; r < tokens.size(); ++r) {
    dequantise_row(embedding.table, tokens[r],
                   Span<float>(rows).subspan(r * embedding.table.columns, embedding.table.columns));
  }
  set_hidden(rows);
}

void Path::set_hidden(Span<const float> hidden) {
  device_->upload(device_->hidden, as_bytes(hidden));
}

void Path::get_hidden(Span<float> hidden) {
  device_->download(device_->hidden, MutableBytes(reinterpret_cast<std::uint8_t*>(hidden.data()),
                                                  hidden.size() * sizeof(float)));
}

void Path::store_kv(const Layer& layer, std::uint32_t index) {
  ampere::Device& d = *device_;
  const ModelConfig& c = d.config;
  d.quantize(kernels::NormedRows{d.hidden.as<float>(), layer.attn_norm.as<float>(), c.norm_epsilon},
             0, layer.qkv);
  const kernels::CacheRows cache = d.cache_rows(index);
  const int heads = static_cast<int>(c.heads), kv_heads = static_cast<int>(c.kv_heads);
  const float* const bias = layer.qkv_bias.as<float>();
  if (layer.q_norm.data() == nullptr) {
    d.multiply(
        layer.qkv, d.rows,
        kernels::GemmRopeWrite{d.q.as<__half>(), bias, cache, d.rotation(), heads, kv_heads});
    return;
  }
  d.multiply(layer.qkv, d.rows, kernels::GemmStore{d.qkv.as<float>(), bias, layer.qkv.rows});
  d.note(kernels::launch_norm_rope_write(
      kernels::NormRopeWriteParams{d.qkv.as<float>(), layer.q_norm.as<float>(),
                                   layer.k_norm.as<float>(), c.norm_epsilon, d.q.as<__half>(),
                                   cache, d.rotation(), static_cast<int>(d.rows), heads, kv_heads},
      d.stream));
}

void Path::token_attention(std::uint32_t index, std::size_t queries, Span<float> out) {
  device_->token_attention(index, queries, out);
}

Fence Path::fence() {
  return device_->fence();
}

void Path::attend(const Layer& layer, std::uint32_t index) {
  ampere::Device& d = *device_;
  const std::size_t width = std::size_t{d.config.heads} * d.config.head_dim;
  d.attention(index, first_row_);
  d.quantize(kernels::HalfRows{d.attended.as<__half>() + first_row_ * width}, first_row_, layer.o);
  d.multiply(layer.o, d.rows - first_row_,
             kernels::GemmAddResidual{d.hidden_row(first_row_), layer.o.rows});
}

void Path::feed_forward(const Layer& layer) {
  ampere::Device& d = *device_;
  const std::size_t rows = d.rows - first_row_;
  d.quantize(kernels::NormedRows{d.hidden_row(first_row_), layer.ffn_norm.as<float>(),
                                 d.config.norm_epsilon},
             first_row_, layer.gate_up);
  d.multiply(layer.gate_up, rows, kernels::GemmSwiGlu{d.ffn.as<__half>(), layer.gate_up.rows});
  d.quantize(kernels::HalfRows{d.ffn.as<__half>()}, first_row_, layer.down);
  d.multiply(layer.down, rows, kernels::GemmAddResidual{d.hidden_row(first_row_), layer.down.rows});
}

void Path::logits(const Head& head, std::size_t row, Span<float> out) {
  ampere::Device& d = *device_;
  const std::size_t rows = out.size() / d.config.vocab;
  d.note(d.logits.reserve(out.size() * sizeof(float), "logits"));
  d.quantize(kernels::NormedRows{d.hidden_row(row), head.norm.as<float>(), d.config.norm_epsilon},
             d.rows - rows, head.matrix);
  d.multiply(head.matrix, rows,
             kernels::GemmStore{d.logits.as<float>(), nullptr, head.matrix.rows});
  d.download(d.logits,
             MutableBytes(reinterpret_cast<std::uint8_t*>(out.data()), out.size() * sizeof(float)));
}

}  // namespace kvferry
