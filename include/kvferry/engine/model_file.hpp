// ModelFile: a GGUF file of a supported family, checked as a whole: shape, weights by role.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "kvferry/core/result.hpp"
#include "kvferry/engine/gguf.hpp"
#include "kvferry/model/config.hpp"
#include "kvferry/model/identity.hpp"
#include "kvferry/model/tensor.hpp"

namespace kvferry {

// The weights of one layer as the file holds them. Matrices are [outputs, inputs]; vectors have one
// row. A view that the model has not is empty (rows == 0).
struct LayerWeights {
  TensorView attn_norm;  // [hidden]
  TensorView q;          // [heads * head_dim, hidden]
  TensorView k;          // [kv_heads * head_dim, hidden]
  TensorView v;          // [kv_heads * head_dim, hidden]
  TensorView q_bias;     // [heads * head_dim] or empty; all three or none
  TensorView k_bias;     // [kv_heads * head_dim] or empty
  TensorView v_bias;     // [kv_heads * head_dim] or empty
  TensorView q_norm;     // [head_dim] or empty: RMSNorm of each head, before RoPE; both or none
  TensorView k_norm;     // [head_dim] or empty
  TensorView o;          // [hidden, heads * head_dim]
  TensorView ffn_norm;   // [hidden]
  TensorView gate;       // [ffn, hidden]
  TensorView up;         // [ffn, hidden]
  TensorView down;       // [hidden, ffn]
};

struct ModelWeights {
  TensorView token_embedding;  // [vocab, hidden]
  std::vector<LayerWeights> layers;
  TensorView output_norm;  // [hidden]
  TensorView output;       // [vocab, hidden]; the token embedding's bytes when `tied`
  bool tied = false;
};

// Moving a ModelFile leaves its views valid. The views of a mapped file cost nothing until they are
// read: a machine that runs only some layers of the model reads only those.
class ModelFile {
 public:
  // Maps the file and checks all that a run depends on: metadata ranges, divisibility, every
  // tensor's presence, type and shape. kUnsupported names the architecture, feature or tensor type
  // that this library does not run; kMalformed and kIncomplete name the key or tensor.
  static Result<ModelFile> open(const std::string& path);
  // The same for an already parsed file.
  static Result<ModelFile> from(GgufFile file);

  const GgufFile& gguf() const { return file_; }
  const ModelConfig& config() const { return config_; }
  const ModelWeights& weights() const { return weights_; }

 private:
  ModelFile(GgufFile file, ModelConfig config, ModelWeights weights)
      : file_(std::move(file)), config_(std::move(config)), weights_(std::move(weights)) {}

  GgufFile file_;
  ModelConfig config_;
  ModelWeights weights_;
};

// Reads the norm weights and the vocabulary (some megabytes); compute it once per file.
ModelIdentity identity_of(const ModelFile& model);

}  // namespace kvferry
