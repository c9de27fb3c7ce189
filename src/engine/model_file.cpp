#include "kvferry/engine/model_file.hpp"

#include <algorithm>
#include <utility>

#include "kvferry/core/quoted.hpp"

#include "model_metadata.hpp"

namespace kvferry {
namespace {

bool is_supported(std::uint32_t ggml_type) {
  const auto type = static_cast<TensorType>(ggml_type);
  return block_bytes(type) != 0;
}

// Takes tensors by name and keeps account of them, so that what nobody asked for can be named.
class TensorTable {
 public:
  explicit TensorTable(const GgufFile& file) : file_(file), used_(file.tensors().size(), false) {}

  // `rows` 0: any number.
  Result<TensorView> matrix(const std::string& name, std::uint64_t rows, std::uint64_t columns) {
    const GgufTensor* const t = file_.find_tensor(name);
    if (t == nullptr) return Error(ErrorCode::kMalformed, "tensor " + quoted(name) + " is missing");
    const std::string what = "tensor " + quoted(name) + " at byte " + std::to_string(t->offset);
    if (!is_supported(t->type)) {
      return Error(ErrorCode::kUnsupported, what + " is of type " + find_ggml_type(t->type)->name +
                                                ", which is not supported");
    }
    const auto& d = t->dimensions;
    if (d[0] != columns || (rows != 0 && d[1] != rows) || d[2] != 1 || d[3] != 1) {
      std::string shape = std::to_string(d[0]);
      for (std::uint32_t i = 1; i < t->dimension_count; ++i) shape += " x " + std::to_string(d[i]);
      std::string wanted = std::to_string(columns);
      if (rows != 1) wanted += " x " + (rows == 0 ? "any" : std::to_string(rows));
      return Error(ErrorCode::kMalformed,
                   what + " has the shape " + shape + "; the model's metadata asks for " + wanted);
    }
    used_[static_cast<std::size_t>(t - file_.tensors().data())] = true;
    TensorView view;
    view.type = static_cast<TensorType>(t->type);
    view.rows = d[1];
    view.columns = d[0];
    view.data = t->data;
    return view;
  }

  Result<TensorView> vector(const std::string& name, std::uint64_t values) {
    KVFERRY_ASSIGN(const TensorView view, matrix(name, 1, values));
    if (block_values(view.type) != 1) {
      return Error(ErrorCode::kUnsupported, "tensor " + quoted(name) + " is of type " +
                                                name_of(view.type) +
                                                "; norms and biases are supported in F32, F16 "
                                                "and BF16");
    }
    return view;
  }

  // Empty when the file has none.
  Result<TensorView> optional_vector(const std::string& name, std::uint64_t values) {
    if (file_.find_tensor(name) == nullptr) return TensorView();
    return vector(name, values);
  }

  void mark_used(const std::string& name) {
    const GgufTensor* const t = file_.find_tensor(name);
    if (t != nullptr) used_[static_cast<std::size_t>(t - file_.tensors().data())] = true;
  }

  // A tensor that no role asks for belongs to a computation that would be left out.
  Status check_all_used() const {
    const auto it = std::find(used_.begin(), used_.end(), false);
    if (it == used_.end()) return Status();
    const GgufTensor& t = file_.tensors()[static_cast<std::size_t>(it - used_.begin())];
    return Error(ErrorCode::kUnsupported,
                 "tensor " + quoted(t.name) + " at byte " + std::to_string(t.offset) +
                     " has no part in the supported form of this architecture");
  }

 private:
  const GgufFile& file_;
  std::vector<bool> used_;
};

Result<LayerWeights> read_layer(TensorTable& tensors, const ModelConfig& c, std::uint32_t layer) {
  const std::string p = "blk." + std::to_string(layer) + ".";
  const std::uint64_t q_width = std::uint64_t{c.heads} * c.head_dim;
  const std::uint64_t kv_width = std::uint64_t{c.kv_heads} * c.head_dim;
  LayerWeights w;
  KVFERRY_ASSIGN(w.attn_norm, tensors.vector(p + "attn_norm.weight", c.hidden));
  KVFERRY_ASSIGN(w.q, tensors.matrix(p + "attn_q.weight", q_width, c.hidden));
  KVFERRY_ASSIGN(w.k, tensors.matrix(p + "attn_k.weight", kv_width, c.hidden));
  KVFERRY_ASSIGN(w.v, tensors.matrix(p + "attn_v.weight", kv_width, c.hidden));
  if (c.architecture == Architecture::kQwen2) {
    KVFERRY_ASSIGN(w.q_bias, tensors.vector(p + "attn_q.bias", q_width));
    KVFERRY_ASSIGN(w.k_bias, tensors.vector(p + "attn_k.bias", kv_width));
    KVFERRY_ASSIGN(w.v_bias, tensors.vector(p + "attn_v.bias", kv_width));
  } else {
    KVFERRY_ASSIGN(w.q_bias, tensors.optional_vector(p + "attn_q.bias", q_width));
    KVFERRY_ASSIGN(w.k_bias, tensors.optional_vector(p + "attn_k.bias", kv_width));
    KVFERRY_ASSIGN(w.v_bias, tensors.optional_vector(p + "attn_v.bias", kv_width));
  }
  if (c.architecture == Architecture::kQwen3) {
    KVFERRY_ASSIGN(w.q_norm, tensors.vector(p + "attn_q_norm.weight", c.head_dim));
    KVFERRY_ASSIGN(w.k_norm, tensors.vector(p + "attn_k_norm.weight", c.head_dim));
  }
  KVFERRY_ASSIGN(w.o, tensors.matrix(p + "attn_output.weight", c.hidden, q_width));
  KVFERRY_ASSIGN(w.ffn_norm, tensors.vector(p + "ffn_norm.weight", c.hidden));
  KVFERRY_ASSIGN(w.gate, tensors.matrix(p + "ffn_gate.weight", c.ffn, c.hidden));
  KVFERRY_ASSIGN(w.up, tensors.matrix(p + "ffn_up.weight", c.ffn, c.hidden));
  KVFERRY_ASSIGN(w.down, tensors.matrix(p + "ffn_down.weight", c.hidden, c.ffn));
  return w;
}

Result<ModelWeights> read_weights(const GgufFile& file, ModelConfig& config) {
  constexpr std::uint64_t kMaxVocab = 1u << 24;
  TensorTable tensors(file);
  ModelWeights w;
  KVFERRY_ASSIGN(w.token_embedding, tensors.matrix("token_embd.weight", 0, config.hidden));
  if (w.token_embedding.rows > kMaxVocab) {
    return Error(ErrorCode::kMalformed,
                 "tensor \"token_embd.weight\" has " + std::to_string(w.token_embedding.rows) +
                     " rows; a vocabulary has at most " + std::to_string(kMaxVocab));
  }
  config.vocab = static_cast<std::uint32_t>(w.token_embedding.rows);
  const GgufEntry* const tokens = file.find("tokenizer.ggml.tokens");
  if (tokens != nullptr && tokens->count != config.vocab) {
    return Error(ErrorCode::kMalformed, "key \"tokenizer.ggml.tokens\" at byte " +
                                            std::to_string(tokens->offset) + " has " +
                                            std::to_string(tokens->count) +
                                            " tokens, but tensor \"token_embd.weight\" has " +
                                            std::to_string(config.vocab) + " rows");
  }
  for (std::uint32_t layer = 0; layer < config.layers; ++layer) {
    KVFERRY_ASSIGN(LayerWeights weights, read_layer(tensors, config, layer));
    w.layers.push_back(weights);
  }
  KVFERRY_ASSIGN(w.output_norm, tensors.vector("output_norm.weight", config.hidden));
  w.tied = file.find_tensor("output.weight") == nullptr;
  if (w.tied) {
    w.output = w.token_embedding;
  } else {
    KVFERRY_ASSIGN(w.output, tensors.matrix("output.weight", config.vocab, config.hidden));
  }
  tensors.mark_used("rope_freqs.weight");
  KVFERRY_TRY(tensors.check_all_used());
  return w;
}

}  // namespace

Result<ModelFile> ModelFile::open(const std::string& path) {
  KVFERRY_ASSIGN(GgufFile file, GgufFile::open(path));
  Result<ModelFile> model = from(std::move(file));
  if (!model.ok()) {
    return Error(model.error().code, quoted(path, 400) + ": " + model.error().message);
  }
  return model;
}

Result<ModelFile> ModelFile::from(GgufFile file) {
  KVFERRY_ASSIGN(const ModelMetadata metadata, ModelMetadata::of(file));
  KVFERRY_ASSIGN(ModelConfig config, read_model_config(file, metadata));
  KVFERRY_ASSIGN(ModelWeights weights, read_weights(file, config));
  return ModelFile(std::move(file), std::move(config), std::move(weights));
}

}  // namespace kvferry
