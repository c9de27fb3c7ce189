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
#include "kvferry/model/weights.hpp"

namespace kvferry {

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
