// The weights of a model by role, as views into the file that holds them.
#pragma once

#include <vector>

#include "kvferry/model/tensor.hpp"

namespace kvferry {

// The weights of one layer as the file holds them. Matrices are [outputs, inputs], of any
// TensorType; vectors have one row, of F32, F16 or BF16. A view that the model has not is empty().
struct LayerWeights {
  TensorView attn_norm;  // [hidden]
  TensorView q;          // [heads * head_dim, hidden]
  TensorView k;          // [kv_heads * head_dim, hidden]
  TensorView v;          // [kv_heads * head_dim, hidden]
  TensorView q_bias;     // [heads * head_dim] or empty; qwen2 has all three
  TensorView k_bias;     // [kv_heads * head_dim] or empty
  TensorView v_bias;     // [kv_heads * head_dim] or empty
  TensorView q_norm;     // [head_dim] or empty: RMSNorm of each head, before RoPE; qwen3 has both
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

}  // namespace kvferry
