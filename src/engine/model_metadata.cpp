#include "model_metadata.hpp"

#include <cmath>

#include "kvferry/core/quoted.hpp"

namespace kvferry {

Result<ModelMetadata> ModelMetadata::of(const GgufFile& file) {
  const Result<std::string_view> name = file.string("general.architecture");
  if (!name.ok()) {
    if (name.error().code != ErrorCode::kNotFound) return name.error();
    return Error(ErrorCode::kMalformed,
                 "key \"general.architecture\" is missing: the file does not say what model it is");
  }
  for (const Architecture a : {Architecture::kLlama, Architecture::kQwen2, Architecture::kQwen3}) {
    if (*name == name_of(a)) return ModelMetadata(file, a);
  }
  return Error(ErrorCode::kUnsupported, "the architecture " + quoted(*name) +
                                            " is not supported; llama, qwen2 and qwen3 are");
}

std::string ModelMetadata::key(std::string_view suffix) const {
  return std::string(name_of(architecture_)) + "." + std::string(suffix);
}

Error ModelMetadata::invalid(std::string_view suffix, const std::string& value,
                             const std::string& rule) const {
  const std::string k = key(suffix);
  const GgufEntry* const entry = file_->find(k);
  const std::string where = entry == nullptr ? "" : " at byte " + std::to_string(entry->offset);
  return Error(ErrorCode::kMalformed, "key " + quoted(k) + where + " is " + value + "; " + rule);
}

Result<std::uint32_t> ModelMetadata::count(std::string_view suffix, std::uint32_t max) const {
  const std::string k = key(suffix);
  const GgufEntry* const entry = file_->find(k);
  if (entry == nullptr) return Error(ErrorCode::kMalformed, "key " + quoted(k) + " is missing");
  std::uint64_t value = 0;
  if (entry->type == GgufType::kArray) {
    KVFERRY_ASSIGN(const std::vector<std::int64_t> values, file_->integers(k));
    if (values.empty()) return invalid(suffix, "an empty array", "it must have a value a layer");
    for (const std::int64_t v : values) {
      if (v != values[0]) {
        return Error(ErrorCode::kUnsupported, "key " + quoted(k) +
                                                  " has different values for different layers, "
                                                  "which is not supported");
      }
    }
    if (values[0] < 0) return invalid(suffix, std::to_string(values[0]), "it must be positive");
    value = static_cast<std::uint64_t>(values[0]);
  } else {
    KVFERRY_ASSIGN(value, file_->unsigned_integer(k));
  }
  if (value < 1 || value > max) {
    return invalid(suffix, std::to_string(value), "it must be 1 to " + std::to_string(max));
  }
  return static_cast<std::uint32_t>(value);
}

Result<std::uint32_t> ModelMetadata::count_or(std::string_view suffix, std::uint32_t max,
                                              std::uint32_t otherwise) const {
  if (!has(suffix)) return otherwise;
  return count(suffix, max);
}

Result<double> ModelMetadata::number(std::string_view suffix) const {
  const std::string k = key(suffix);
  if (file_->find(k) == nullptr) {
    return Error(ErrorCode::kMalformed, "key " + quoted(k) + " is missing");
  }
  KVFERRY_ASSIGN(const double value, file_->number(k));
  if (!std::isfinite(value)) {
    return invalid(suffix, std::to_string(value), "it must be a finite number");
  }
  return value;
}

Result<double> ModelMetadata::number_or(std::string_view suffix, double otherwise) const {
  if (!has(suffix)) return otherwise;
  return number(suffix);
}

Result<std::string_view> ModelMetadata::string_or(std::string_view suffix,
                                                  std::string_view otherwise) const {
  if (!has(suffix)) return otherwise;
  return file_->string(key(suffix));
}

}  // namespace kvferry
