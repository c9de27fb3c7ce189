#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "kvferry/core/result.hpp"
#include "kvferry/engine/gguf.hpp"
#include "kvferry/model/config.hpp"

namespace kvferry {

// The keys "<architecture>.<suffix>" of a model file, each checked against a range.
class ModelMetadata {
 public:
  // Error kUnsupported when the architecture is none of ours, kMalformed when it is not named.
  static Result<ModelMetadata> of(const GgufFile& file);

  Architecture architecture() const { return architecture_; }
  std::string key(std::string_view suffix) const;
  bool has(std::string_view suffix) const { return file_->find(key(suffix)) != nullptr; }

  // An integer in [1, max]. An array (one value a layer) counts as its value when all are equal.
  Result<std::uint32_t> count(std::string_view suffix, std::uint32_t max) const;
  Result<std::uint32_t> count_or(std::string_view suffix, std::uint32_t max,
                                 std::uint32_t otherwise) const;
  // A finite number; `number_or` when the key may be missing.
  Result<double> number(std::string_view suffix) const;
  Result<double> number_or(std::string_view suffix, double otherwise) const;
  Result<std::string_view> string_or(std::string_view suffix, std::string_view otherwise) const;

  // The error "key … is `value`; `rule`".
  Error invalid(std::string_view suffix, const std::string& value, const std::string& rule) const;

 private:
  ModelMetadata(const GgufFile& file, Architecture architecture)
      : file_(&file), architecture_(architecture) {}

  const GgufFile* file_;
  Architecture architecture_;
};

// Everything of ModelConfig but `vocab`, which the embedding's shape tells. Refuses by name what
// the three families' graph does not compute (experts, soft caps, unknown scalings …).
Result<ModelConfig> read_model_config(const GgufFile& file, const ModelMetadata& metadata);

// The rotation for heads of `head_dim` values, from the rope.* keys and the tensor
// rope_freqs.weight.
Result<RopeSpec> read_rope(const GgufFile& file, const ModelMetadata& metadata,
                           std::uint32_t head_dim, std::uint32_t context_length);

}  // namespace kvferry
