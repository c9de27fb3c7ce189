// A model on a path, with everything that a run needs.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "kvferry/cache/sequence.hpp"
#include "kvferry/compute/cpu_path.hpp"
#include "kvferry/compute/reference.hpp"
#include "kvferry/engine/decode.hpp"
#include "kvferry/engine/model.hpp"
#include "kvferry/engine/model_file.hpp"
#include "kvferry/engine/prefill.hpp"

namespace kvferry_test {

inline std::string golden(const std::string& name) {
  return std::string(KVFERRY_GOLDEN_DIR) + "/" + name;
}

template <typename Path>
class ModelRun {
 public:
  ModelRun(const kvferry::ModelFile& file, std::size_t threads, kvferry::LayerRange layers = {},
           kvferry::ElementType type = kvferry::Compute<Path>::kCacheType)
      : threads_(threads),
        model_(kvferry::Model<Path>::load(file, threads_, layers).value()),
        compute_(kvferry::Compute<Path>::create(model_.config(), threads_).value()),
        pool_(kvferry::KvPool::create(model_.geometry(type), 256).value()) {}

  const kvferry::ModelConfig& config() const { return model_.config(); }
  const std::shared_ptr<kvferry::KvPool>& pool() const { return pool_; }
  std::shared_ptr<kvferry::KvSequence> sequence() { return kvferry::KvSequence::create(pool_); }

  kvferry::Status prefill(const kvferry::PrefillRequest& request, kvferry::KvSequence& sequence) {
    return kvferry::Prefill<Path>(model_, compute_).run(request, sequence);
  }
  // Logits of the last `rows` of the tokens, [rows, vocab].
  std::vector<float> prefill_logits(const std::vector<kvferry::TokenId>& tokens, std::size_t rows,
                                    std::uint32_t chunk, kvferry::KvSequence& sequence) {
    std::vector<float> logits(rows * config().vocab);
    kvferry::PrefillRequest request;
    request.tokens = tokens;
    request.chunk_tokens = chunk;
    request.logits = logits;
    prefill(request, sequence).value();
    return logits;
  }
  kvferry::Status step(const std::vector<kvferry::DecodeInput>& inputs,
                       kvferry::Span<float> logits) {
    return kvferry::Decode<Path>(model_, compute_).step(inputs, logits);
  }

 private:
  kvferry::ThreadPool threads_;
  kvferry::Model<Path> model_;
  kvferry::Compute<Path> compute_;
  std::shared_ptr<kvferry::KvPool> pool_;
};

// All rows of a sequence's cache as they are stored.
inline std::vector<std::uint8_t> cache_bytes(const kvferry::KvSequence& sequence) {
  const kvferry::KvGeometry& g = sequence.geometry();
  std::vector<std::uint8_t> bytes;
  for (std::uint32_t l = g.first_layer; l < g.first_layer + g.layers; ++l) {
    for (const kvferry::Plane plane : {kvferry::Plane::kKey, kvferry::Plane::kValue}) {
      std::vector<std::uint8_t> rows(sequence.length() * g.row_bytes());
      sequence.read({l, plane, 0, sequence.length()}, sequence.generation(), rows).value();
      bytes.insert(bytes.end(), rows.begin(), rows.end());
    }
  }
  return bytes;
}

}  // namespace kvferry_test
