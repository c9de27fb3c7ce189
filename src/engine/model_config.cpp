// ModelConfig from a file's metadata, and the features that are refused by name.
#include <cmath>
#include <string>

#include "kvferry/core/quoted.hpp"
#include "kvferry/model/identity.hpp"

#include "model_metadata.hpp"

namespace kvferry {
namespace {

// Far above any model of the families; they keep every product below in 64 bits.
constexpr std::uint32_t kMaxLayers = 1024;
constexpr std::uint32_t kMaxHeads = 1024;
constexpr std::uint32_t kMaxHeadDim = 2 * ModelIdentity::kMaxRopePairs;
constexpr std::uint32_t kMaxWidth = 1u << 22;
constexpr std::uint32_t kMaxContext = 1u << 26;

Error unsupported(const std::string& key, const std::string& value) {
  return Error(ErrorCode::kUnsupported,
               "the model sets " + quoted(key) + " to " + value + ", which is not supported");
}

// Keys whose presence with a value that changes the computation would make our result wrong.
Status refuse_features(const GgufFile& file, const ModelMetadata& metadata) {
  // Neutral when missing or 0; scales also when 1.
  static constexpr const char* kZero[] = {"expert_count",
                                          "expert_used_count",
                                          "attn_logit_softcapping",
                                          "final_logit_softcapping",
                                          "attention.clamp_kqv",
                                          "attention.max_alibi_bias",
                                          "attention.shared_kv_layers",
                                          "attention.temperature_length",
                                          "attention.temperature_scale",
                                          "attention.kv_lora_rank",
                                          "attention.q_lora_rank",
                                          "attention.key_length_mla",
                                          "attention.value_length_mla",
                                          "nextn_predict_layers",
                                          "embedding_length_per_layer_input",
                                          "rope.scaling.alpha",
                                          "rope.scaling.yarn_log_multiplier"};
  static constexpr const char* kOne[] = {"logit_scale", "residual_scale", "embedding_scale",
                                         "attention.output_scale", "rope.scaling.yarn_attn_factor"};
  static constexpr const char* kFalse[] = {"use_parallel_residual", "swin_norm"};
  for (const char* const suffix : kZero) {
    KVFERRY_ASSIGN(const double value, metadata.number_or(suffix, 0.0));
    if (value != 0.0) return unsupported(metadata.key(suffix), std::to_string(value));
  }
  for (const char* const suffix : kOne) {
    KVFERRY_ASSIGN(const double value, metadata.number_or(suffix, 1.0));
    if (value != 0.0 && value != 1.0) {
      return unsupported(metadata.key(suffix), std::to_string(value));
    }
  }
  for (const char* const suffix : kFalse) {
    if (!metadata.has(suffix)) continue;
    KVFERRY_ASSIGN(const bool value, file.boolean(metadata.key(suffix)));
    if (value) return unsupported(metadata.key(suffix), "true");
  }
  if (metadata.has("attention.causal")) {
    KVFERRY_ASSIGN(const bool causal, file.boolean(metadata.key("attention.causal")));
    if (!causal) return unsupported(metadata.key("attention.causal"), "false");
  }
  if (metadata.has("rope.dimension_sections")) {
    return unsupported(metadata.key("rope.dimension_sections"), "some sections");
  }
  return Status();
}

// A file that is something other than one whole model.
Status refuse_parts(const GgufFile& file) {
  const Result<std::string_view> type = file.string("general.type");
  if (type.ok() && *type != "model") {
    return Error(ErrorCode::kUnsupported,
                 "the file holds " + quoted(*type) + " (key \"general.type\"), not a model");
  }
  const Result<std::uint64_t> parts = file.unsigned_integer("split.count");
  if (parts.ok() && *parts > 1) {
    return Error(ErrorCode::kUnsupported, "the file is one of " + std::to_string(*parts) +
                                              " parts of a model (key \"split.count\"); merge them "
                                              "with llama-gguf-split --merge");
  }
  return Status();
}

// attention.scale, when set, is the 1/sqrt(head_dim) that the graph uses.
Status check_attention_scale(const ModelMetadata& metadata, std::uint32_t head_dim) {
  KVFERRY_ASSIGN(const double scale, metadata.number_or("attention.scale", 0.0));
  const double ours = 1.0 / std::sqrt(static_cast<double>(head_dim));
  if (scale != 0.0 && !(std::abs(scale - ours) <= 1e-6 * ours)) {
    return unsupported(metadata.key("attention.scale"),
                       std::to_string(scale) + " instead of 1/sqrt(head_dim)");
  }
  return Status();
}

}  // namespace

Result<ModelConfig> read_model_config(const GgufFile& file, const ModelMetadata& metadata) {
  KVFERRY_TRY(refuse_parts(file));
  KVFERRY_TRY(refuse_features(file, metadata));
  ModelConfig c;
  c.architecture = metadata.architecture();
  KVFERRY_ASSIGN(c.layers, metadata.count("block_count", kMaxLayers));
  KVFERRY_ASSIGN(c.hidden, metadata.count("embedding_length", kMaxWidth));
  KVFERRY_ASSIGN(c.ffn, metadata.count("feed_forward_length", kMaxWidth));
  KVFERRY_ASSIGN(c.heads, metadata.count("attention.head_count", kMaxHeads));
  KVFERRY_ASSIGN(c.kv_heads, metadata.count_or("attention.head_count_kv", kMaxHeads, c.heads));
  KVFERRY_ASSIGN(c.context_length, metadata.count("context_length", kMaxContext));
  if (c.heads % c.kv_heads != 0) {
    return metadata.invalid("attention.head_count_kv", std::to_string(c.kv_heads),
                            "it must divide the " + std::to_string(c.heads) + " query heads");
  }
  if (metadata.has("attention.key_length")) {
    KVFERRY_ASSIGN(c.head_dim, metadata.count("attention.key_length", kMaxHeadDim));
  } else {
    c.head_dim = c.hidden / c.heads;
    if (c.hidden % c.heads != 0 || c.head_dim > kMaxHeadDim) {
      return metadata.invalid("attention.head_count", std::to_string(c.heads),
                              "it must divide the hidden width " + std::to_string(c.hidden) +
                                  " into heads of at most " + std::to_string(kMaxHeadDim));
    }
  }
  if (c.head_dim % 2 != 0) {
    return Error(ErrorCode::kUnsupported,
                 "heads of " + std::to_string(c.head_dim) +
                     " values are not supported: RoPE needs an even number");
  }
  KVFERRY_ASSIGN(const std::uint32_t value_length,
                 metadata.count_or("attention.value_length", kMaxHeadDim, c.head_dim));
  if (value_length != c.head_dim) {
    return unsupported(
        metadata.key("attention.value_length"),
        std::to_string(value_length) + " beside keys of " + std::to_string(c.head_dim));
  }
  KVFERRY_TRY(check_attention_scale(metadata, c.head_dim));
  // Attention here spans the whole sequence, which equals a sliding window as long as the sequence
  // fits into the window.
  KVFERRY_ASSIGN(const double window, metadata.number_or("attention.sliding_window", 0.0));
  if (window < 0.0 || (window > 0.0 && window < 1.0)) {
    return metadata.invalid("attention.sliding_window", std::to_string(window),
                            "it must be a number of tokens");
  }
  if (window > 0.0 && window < c.context_length) {
    c.context_length = static_cast<std::uint32_t>(window);
  }
  KVFERRY_ASSIGN(const double epsilon, metadata.number("attention.layer_norm_rms_epsilon"));
  if (epsilon < 0.0 || epsilon >= 1.0) {
    return metadata.invalid("attention.layer_norm_rms_epsilon", std::to_string(epsilon),
                            "it must lie in [0, 1)");
  }
  c.norm_epsilon = static_cast<float>(epsilon);
  KVFERRY_ASSIGN(c.rope, read_rope(file, metadata, c.head_dim, c.context_length));
  return c;
}

}  // namespace kvferry
