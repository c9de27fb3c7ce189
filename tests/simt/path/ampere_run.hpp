// path::AmpereInt8 on the emulated device, with everything that a run needs.
#pragma once

#include <memory>
#include <vector>

#include <cuda_runtime.h>

#include "kvferry/compute/ampere_path.hpp"

#include "tests/engine/model_run.hpp"

namespace kvferry_test {

using namespace kvferry;
using Ampere = Compute<path::AmpereInt8>;

// A model on the path, its cache on the device.
class AmpereRun {
 public:
  explicit AmpereRun(const ModelFile& file)
      : threads_(1),
        orin_(),
        model_(Model<path::AmpereInt8>::load(file, threads_).value()),
        compute_(Ampere::create(model_.config(), threads_).value()),
        pool_(KvPool::create(model_.geometry(ElementType::kF16), 16, Ampere::cache_memory())
                  .value()) {}

  std::shared_ptr<KvSequence> sequence() { return KvSequence::create(pool_); }
  const ModelConfig& config() const { return model_.config(); }
  Status prefill(const PrefillRequest& request, KvSequence& sequence) {
    return Prefill<path::AmpereInt8>(model_, compute_).run(request, sequence);
  }
  Status step(const std::vector<DecodeInput>& inputs, Span<float> logits) {
    return Decode<path::AmpereInt8>(model_, compute_).step(inputs, logits);
  }

 private:
  // The emulated device is an Orin NX.
  struct Orin {
    Orin() {
      simt::settings().compute_major = 8;
      simt::settings().compute_minor = 7;
      simt::settings().multiprocessors = 8;
    }
  };

  ThreadPool threads_;
  Orin orin_;
  Model<path::AmpereInt8> model_;
  Ampere compute_;
  std::shared_ptr<KvPool> pool_;
};

// Logits of every token.
template <typename Run>
std::vector<float> all_logits(Run& run, const std::vector<TokenId>& tokens, std::uint32_t chunk,
                              KvSequence& sequence, std::vector<float>* attention = nullptr) {
  std::vector<float> logits(tokens.size() * run.config().vocab);
  PrefillRequest request;
  request.tokens = tokens;
  request.chunk_tokens = chunk;
  request.logits = logits;
  if (attention != nullptr) {
    attention->assign(run.config().layers * tokens.size(), -1.0f);
    request.attention = *attention;
  }
  run.prefill(request, sequence).value();
  return logits;
}

}  // namespace kvferry_test
