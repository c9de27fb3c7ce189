// evaluate(): what ways of carrying a cache cost, in bits and in what the model says.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "kvferry/engine/engine.hpp"
#include "kvferry/quality/cache_codec.hpp"
#include "kvferry/quality/contexts.hpp"
#include "kvferry/quality/divergence.hpp"

namespace kvferry {

struct EvaluationOptions {
  std::size_t threads = 0;  // 0: as many as the machine has processors
  // Looked at often; when it becomes true the run ends with kCancelled. May be null.
  const std::atomic<bool>* cancel = nullptr;
  // Called with the continuations that are scored and those that are to be. May be empty.
  std::function<void(std::size_t done, std::size_t total)> on_progress;
};

// A codec's figures over one set of contexts.
struct SetFigures {
  std::uint64_t bits = 0;
  std::uint64_t values = 0;  // K and V values of the contexts
  Divergence divergence;

  double bits_per_value() const {
    return values == 0 ? 0.0 : static_cast<double>(bits) / static_cast<double>(values);
  }
};

struct CodecFigures {
  std::string name;
  bool is_baseline = false;
  std::vector<SetFigures> sets;  // in the order of Evaluation::sets
};

struct Evaluation {
  std::string model;  // what was evaluated, for titles; evaluate() leaves it empty
  std::vector<std::string> sets;
  std::vector<CodecFigures> codecs;
};

// For every context: its cache is computed, and replaced by what each codec makes of it, as F16;
// every continuation is then read in on top of both, and the logits are compared at each of its
// tokens. The engine computes on caches of F32: path "reference" for figures that only the codec
// answers for. Takes memory for four F32 caches of a context and for the logits of a continuation.
//
// Errors are those of the engine and of the codecs, kResourceExhausted for a context that is longer
// than the model's, and kCancelled.
Result<Evaluation> evaluate(Engine& engine, const EvaluationContexts& contexts,
                            const std::vector<std::unique_ptr<CacheCodec>>& codecs,
                            const EvaluationOptions& options = {});

}  // namespace kvferry
