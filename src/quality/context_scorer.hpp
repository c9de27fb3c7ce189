// ContextScorer: one context after another, its cache, and what the model says on top of a copy.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <vector>

#include "kvferry/core/thread_pool.hpp"
#include "kvferry/engine/engine.hpp"
#include "kvferry/quality/context_cache.hpp"
#include "kvferry/quality/contexts.hpp"
#include "kvferry/quality/divergence.hpp"

namespace kvferry {

class ContextScorer {
 public:
  // Has room for the longest of these contexts. `engine` outlives it, and `cancel`, which may be
  // null.
  static Result<ContextScorer> create(Engine& engine, const EvaluationContexts& contexts,
                                      const std::atomic<bool>* cancel);

  // Computes the context's cache and the logits of its continuations. The context stays until the
  // next call.
  Status load(const EvaluationContext& context);
  const ContextCache& cache() const { return cache_; }

  // Compares continuation `index` on top of a copy, rounded to F16, with that on top of the cache
  // itself.
  Status score(const ContextCache& copy, std::size_t index, ThreadPool& threads,
               DivergenceMeter& meter);

 private:
  ContextScorer(Engine& engine, std::shared_ptr<KvPool> pool, const std::atomic<bool>* cancel)
      : engine_(&engine), pool_(std::move(pool)), cancel_(cancel) {}

  // Appends the tokens and gives the logits after each of them, [tokens, vocab].
  Status read_in(KvSequence& sequence, Span<const TokenId> tokens, Span<float> logits);
  Status check_cancel() const;

  Engine* engine_;
  std::shared_ptr<KvPool> pool_;
  const std::atomic<bool>* cancel_;
  const EvaluationContext* context_ = nullptr;
  ContextCache cache_;
  std::vector<std::vector<float>> expected_;  // of each continuation, [tokens, vocab]
};

}  // namespace kvferry
