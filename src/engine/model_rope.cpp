// RopeSpec from a file's rope.* keys.
#include <cmath>
#include <string>
#include <vector>

#include "kvferry/compute/dequantise.hpp"
#include "kvferry/core/quoted.hpp"
#include "kvferry/model/rope_scaling.hpp"

#include "model_metadata.hpp"

namespace kvferry {
namespace {

Result<double> positive(const ModelMetadata& metadata, std::string_view suffix, double otherwise) {
  KVFERRY_ASSIGN(const double value, metadata.number_or(suffix, otherwise));
  if (!(value > 0.0)) return metadata.invalid(suffix, std::to_string(value), "it must be positive");
  return value;
}

// rope.scaling.factor or its old name; 0, like absence, means 1.
Result<double> scaling_factor(const ModelMetadata& metadata) {
  const char* const suffix =
      metadata.has("rope.scaling.factor") ? "rope.scaling.factor" : "rope.scale_linear";
  KVFERRY_ASSIGN(const double value, metadata.number_or(suffix, 1.0));
  if (value == 0.0) return 1.0;
  if (value < 1e-3 || value > 1e6) {
    return metadata.invalid(suffix, std::to_string(value), "it must lie in [0.001, 1000000]");
  }
  return value;
}

Result<RopeSpec> read_yarn(const ModelMetadata& metadata, const RopeParameters& plain,
                           double factor, std::uint32_t context_length) {
  if (factor < 1.0) {
    return metadata.invalid("rope.scaling.factor", std::to_string(factor), "YaRN needs at least 1");
  }
  YarnScaling s;
  s.factor = factor;
  KVFERRY_ASSIGN(s.original_context,
                 positive(metadata, "rope.scaling.original_context_length", context_length));
  KVFERRY_ASSIGN(s.beta_fast, positive(metadata, "rope.scaling.yarn_beta_fast", s.beta_fast));
  KVFERRY_ASSIGN(s.beta_slow, positive(metadata, "rope.scaling.yarn_beta_slow", s.beta_slow));
  KVFERRY_ASSIGN(s.extrapolation,
                 metadata.number_or("rope.scaling.yarn_ext_factor", s.extrapolation));
  // Negative is GGUF's way to say "not set".
  if (s.extrapolation < 0.0) s.extrapolation = 1.0;
  if (s.extrapolation > 1.0) {
    return metadata.invalid("rope.scaling.yarn_ext_factor", std::to_string(s.extrapolation),
                            "it must be at most 1");
  }
  return yarn_rope(plain, s);
}

// Llama 3 scaling comes as one divisor a pair, in a tensor.
Status apply_frequency_tensor(const GgufFile& file, RopeSpec& spec) {
  const GgufTensor* const tensor = file.find_tensor("rope_freqs.weight");
  if (tensor == nullptr) return Status();
  const std::string what = "tensor \"rope_freqs.weight\"";
  const std::size_t pairs = spec.inverse_frequency.size();
  if (tensor->type != static_cast<std::uint32_t>(TensorType::kF32)) {
    return Error(ErrorCode::kUnsupported,
                 what + " is of type " + find_ggml_type(tensor->type)->name + "; F32 is supported");
  }
  if (tensor->data.size() != pairs * sizeof(float)) {
    return Error(ErrorCode::kMalformed,
                 what + " has " + std::to_string(tensor->data.size() / sizeof(float)) +
                     " values; the model's RoPE has " + std::to_string(pairs) + " pairs");
  }
  std::vector<float> factors(pairs);
  dequantise(TensorType::kF32, tensor->data, factors);
  for (std::size_t i = 0; i < pairs; ++i) {
    if (!(factors[i] >= 1e-3f && factors[i] <= 1e6f)) {
      return Error(ErrorCode::kMalformed, what + " has the value " + std::to_string(factors[i]) +
                                              " at index " + std::to_string(i) +
                                              "; it must lie in [0.001, 1000000]");
    }
  }
  divide_frequencies(spec, factors);
  return Status();
}

}  // namespace

Result<RopeSpec> read_rope(const GgufFile& file, const ModelMetadata& metadata,
                           std::uint32_t head_dim, std::uint32_t context_length) {
  RopeParameters plain;
  // Converters permute Q and K of llama models so that pairs lie side by side.
  plain.layout = metadata.architecture() == Architecture::kLlama ? RopeLayout::kInterleaved
                                                                 : RopeLayout::kSplitHalves;
  KVFERRY_ASSIGN(plain.rotated, metadata.count_or("rope.dimension_count", head_dim, head_dim));
  if (plain.rotated % 2 != 0) {
    return metadata.invalid("rope.dimension_count", std::to_string(plain.rotated),
                            "it must be even");
  }
  KVFERRY_ASSIGN(plain.base, metadata.number_or("rope.freq_base", 10000.0));
  if (!(plain.base > 1.0) || plain.base > 1e12) {
    return metadata.invalid("rope.freq_base", std::to_string(plain.base),
                            "it must be above 1 and at most 1e12");
  }
  // With no type GGUF means linear; with no factor either, that is no scaling.
  KVFERRY_ASSIGN(const std::string_view type, metadata.string_or("rope.scaling.type", "linear"));
  KVFERRY_ASSIGN(const double factor, scaling_factor(metadata));
  RopeSpec spec;
  if (type == "none") {
    spec = plain_rope(plain);
  } else if (type == "linear") {
    spec = linear_rope(plain, factor);
  } else if (type == "yarn") {
    KVFERRY_ASSIGN(spec, read_yarn(metadata, plain, factor, context_length));
  } else {
    return Error(ErrorCode::kUnsupported, "the RoPE scaling " + quoted(type) + " (key " +
                                              quoted(metadata.key("rope.scaling.type")) +
                                              ") is not supported; none, linear and yarn are");
  }
  KVFERRY_ASSIGN(const double attention_factor,
                 positive(metadata, "rope.scaling.attn_factor", 1.0));
  if (attention_factor > 100.0) {
    return metadata.invalid("rope.scaling.attn_factor", std::to_string(attention_factor),
                            "it must be at most 100");
  }
  spec.attention_scale =
      static_cast<float>(static_cast<double>(spec.attention_scale) * attention_factor);
  KVFERRY_TRY(apply_frequency_tensor(file, spec));
  return spec;
}

}  // namespace kvferry
