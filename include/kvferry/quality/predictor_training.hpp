// PredictorTraining: the maps of a Predictor from caches of calibration text, by least squares.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "kvferry/codec/codebook.hpp"
#include "kvferry/codec/predictor.hpp"
#include "kvferry/core/thread_pool.hpp"
#include "kvferry/engine/model_file.hpp"
#include "kvferry/engine/tokenizer.hpp"
#include "kvferry/quality/context_cache.hpp"

namespace kvferry {

// Collects rows, then solves. What a map is fitted to is what it will be given: rows that went
// through the quantiser of `low`.
//
// Memory: 4 bytes a value of all caches added (F16 before RoPE, K and V of every layer), and while
// it solves, for each thread, two squares of (2 depth + 2) rows in F32 and F64.
class PredictorTraining {
 public:
  // `depth`: layers before that are used, 1 to Predictor::kMaxDepth.
  PredictorTraining(std::shared_ptr<const Codebook> codebook, std::uint32_t depth)
      : codebook_(std::move(codebook)), depth_(depth) {}

  // The rows of a cache, but position 0, which is not predicted. kMismatch unless the codebook fits
  // it.
  Status add(const ContextCache& cache);
  std::size_t tokens() const { return tokens_; }

  // `on_layer` is called from any thread after each layer, with the number that are done.
  // kInvalidArgument for fewer tokens than the maps have inputs, kCancelled.
  Result<std::shared_ptr<const Predictor>> solve(
      ThreadPool& threads, const std::function<void(std::size_t done)>& on_layer,
      const std::atomic<bool>* cancel) const;

 private:
  struct Planes {
    std::vector<Half> key;    // [tokens, channels], before RoPE
    std::vector<Half> value;  // [tokens, channels]
  };

  Result<PredictorLayer> solve_layer(std::size_t layer) const;

  const std::shared_ptr<const Codebook> codebook_;
  const std::uint32_t depth_;
  std::size_t tokens_ = 0;
  std::vector<Planes> planes_;  // of each layer
};

struct PredictorOptions {
  std::uint32_t depth = 3;  // layers before that are used, 1 to Predictor::kMaxDepth
  // Of text to train on. What the given text lacks the model writes itself, going on from pieces of
  // it: more text helps more than better text.
  std::uint32_t tokens = 0;  // 0: twelve for each input of the widest map, at least 16,384
  std::size_t threads = 0;   // 0: as many as the machine has processors
  // Looked at often; when it becomes true the run ends with kCancelled. May be null.
  const std::atomic<bool>* cancel = nullptr;
  // Called with the pieces of work that are done and those that are to be. May be empty.
  std::function<void(std::size_t done, std::size_t total)> on_progress;
};

// Trains a predictor for caches of this model that are coded with this codebook, on
// path::Reference. The same model, codebook and text give the same maps on the same machine.
// kInvalidArgument when the text has fewer than 64 tokens; errors of the model, and kCancelled.
Result<std::shared_ptr<const Predictor>> train_predictor(const ModelFile& file,
                                                         const Tokenizer& tokenizer,
                                                         const std::string& text,
                                                         std::shared_ptr<const Codebook> codebook,
                                                         const PredictorOptions& options = {});

}  // namespace kvferry
