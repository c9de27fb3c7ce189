// ModelIdentity from a model file.
#include <string>
#include <string_view>
#include <vector>

#include "kvferry/compute/dequantise.hpp"
#include "kvferry/core/hash.hpp"
#include "kvferry/core/quoted.hpp"
#include "kvferry/engine/model_file.hpp"

namespace kvferry {
namespace {

// Each part with its length in front, so that no two different lists hash the same bytes.
void update(Hasher& hasher, Bytes bytes) {
  std::vector<std::uint8_t> length;
  ByteWriter(length).u64(bytes.size());
  hasher.update(length);
  hasher.update(bytes);
}

// What decides how text becomes tokens and tokens become text. Special token numbers and the chat
// template are left out: converters correct them later without changing what a token means.
std::uint64_t hash_tokenizer(const GgufFile& file) {
  Hasher hasher;
  for (const char* const key :
       {"tokenizer.ggml.model", "tokenizer.ggml.pre", "tokenizer.ggml.tokens",
        "tokenizer.ggml.token_type", "tokenizer.ggml.scores", "tokenizer.ggml.merges"}) {
    const GgufEntry* const entry = file.find(key);
    update(hasher, entry == nullptr ? Bytes() : entry->payload);
  }
  return hasher.digest();
}

// The values, not the bytes: a file that stores its norms in F16 where the values fit equals one in
// F32.
std::uint64_t hash_norms(const ModelWeights& weights) {
  Hasher hasher;
  std::vector<float> values;
  std::vector<std::uint8_t> bytes;
  const auto add = [&](const TensorView& view) {
    values.resize(static_cast<std::size_t>(view.columns));
    if (!view.empty()) dequantise_row(view, 0, values);
    bytes.clear();
    ByteWriter writer(bytes);
    for (const float v : values) writer.f32(v);
    update(hasher, bytes);
  };
  for (const LayerWeights& layer : weights.layers) {
    for (const TensorView* view : {&layer.attn_norm, &layer.q_norm, &layer.k_norm, &layer.ffn_norm})
      add(*view);
  }
  add(weights.output_norm);
  return hasher.digest();
}

// At most kMaxTextBytes, cut between characters; empty when there is no such string.
std::string text_of(const GgufFile& file, std::string_view key) {
  const Result<std::string_view> text = file.string(key);
  if (!text.ok()) return std::string();
  std::size_t length = 0;
  while (length < text->size()) {
    const std::size_t character = std::max<std::size_t>(1, utf8_length(text->substr(length)));
    if (character > ModelIdentity::kMaxTextBytes - length) break;
    length += character;
  }
  return std::string(text->substr(0, length));
}

}  // namespace

ModelIdentity identity_of(const ModelFile& model) {
  const ModelConfig& c = model.config();
  ModelIdentity id;
  id.architecture = name_of(c.architecture);
  id.layers = c.layers;
  id.heads = c.heads;
  id.kv_heads = c.kv_heads;
  id.head_dim = c.head_dim;
  id.hidden = c.hidden;
  id.ffn = c.ffn;
  id.vocab = c.vocab;
  id.norm_epsilon = c.norm_epsilon;
  id.rope = c.rope;
  id.tokenizer = hash_tokenizer(model.gguf());
  id.norms = hash_norms(model.weights());
  id.name = text_of(model.gguf(), "general.name");
  id.basename = text_of(model.gguf(), "general.basename");
  id.finetune = text_of(model.gguf(), "general.finetune");
  id.version = text_of(model.gguf(), "general.version");
  return id;
}

}  // namespace kvferry
