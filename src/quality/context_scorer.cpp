#include "context_scorer.hpp"

#include <algorithm>

#include "kvferry/core/half.hpp"

namespace kvferry {
namespace {

// Tokens whose logits are computed together.
constexpr std::size_t kScoredTogether = 128;

}  // namespace

Result<ContextScorer> ContextScorer::create(Engine& engine, const EvaluationContexts& contexts,
                                            const std::atomic<bool>* cancel) {
  std::size_t longest = 0, longest_continuation = 0;
  for (const EvaluationContext& context : contexts.contexts) {
    longest = std::max(longest, context.prompt.size());
    for (const Continuation& c : context.continuations)
      longest_continuation = std::max(longest_continuation, c.tokens.size());
  }
  KvGeometry geometry = engine.geometry();
  geometry.type = ElementType::kF32;
  // One sequence at a time, a continuation on top of it, and the block that both share.
  const std::uint32_t blocks =
      KvPool::blocks_for(static_cast<std::uint32_t>(longest)) +
      KvPool::blocks_for(static_cast<std::uint32_t>(longest_continuation)) + 2;
  KVFERRY_ASSIGN(std::shared_ptr<KvPool> pool, KvPool::create(geometry, blocks));
  return ContextScorer(engine, std::move(pool), cancel);
}

Status ContextScorer::load(const EvaluationContext& context) {
  KVFERRY_TRY(check_cancel());
  context_ = &context;
  const std::shared_ptr<KvSequence> sequence = KvSequence::create(pool_);
  std::vector<float> attention(engine_->geometry().layers * context.prompt.size());
  PrefillRequest request;
  request.tokens = context.prompt;
  request.chunk_tokens = context.chunk_tokens != 0
                             ? context.chunk_tokens
                             : static_cast<std::uint32_t>(context.prompt.size());
  request.attention = attention;
  request.on_layer = [this](const LayerReady&) { return check_cancel(); };
  KVFERRY_TRY(engine_->prefill(request, *sequence));
  KVFERRY_ASSIGN(cache_, ContextCache::read(*sequence));
  cache_.attention = std::move(attention);
  cache_.chunk_tokens = request.chunk_tokens;

  expected_.clear();
  for (const Continuation& continuation : context.continuations) {
    expected_.emplace_back(continuation.tokens.size() * engine_->config().vocab);
    KVFERRY_TRY(read_in(*sequence, continuation.tokens, expected_.back()));
    KVFERRY_TRY(sequence->truncate(cache_.length()));
  }
  return Status();
}

Status ContextScorer::score(const ContextCache& copy, std::size_t index, ThreadPool& threads,
                            DivergenceMeter& meter) {
  KVFERRY_TRY(check_cancel());
  ContextCache rounded = copy;
  for (float& value : rounded.values) value = to_float(to_half(value));
  KVFERRY_ASSIGN(const std::shared_ptr<KvSequence> sequence, rounded.write(pool_));
  const Continuation& continuation = context_->continuations[index];
  const std::vector<float>& expected = expected_[index];
  const std::vector<TokenId>& tokens = continuation.tokens;
  const std::size_t vocab = engine_->config().vocab;
  std::vector<float> logits(std::min(kScoredTogether, tokens.size()) * vocab);
  std::vector<RowDivergence> rows(tokens.size());
  for (std::size_t first = 0; first < tokens.size(); first += kScoredTogether) {
    const std::size_t count = std::min(kScoredTogether, tokens.size() - first);
    KVFERRY_TRY(read_in(*sequence, Span<const TokenId>(tokens).subspan(first, count),
                        Span<float>(logits).first(count * vocab)));
    threads.parallel_for(count, 4, [&](std::size_t begin, std::size_t end, std::size_t) {
      for (std::size_t i = begin; i < end; ++i) {
        const std::size_t token = first + i;
        rows[token] = diverge(Span<const float>(expected).subspan(token * vocab, vocab),
                              Span<const float>(logits).subspan(i * vocab, vocab),
                              token + 1 < tokens.size() ? tokens[token + 1] : continuation.next);
      }
    });
  }
  for (const RowDivergence& row : rows) meter.add(row);
  return Status();
}

Status ContextScorer::read_in(KvSequence& sequence, Span<const TokenId> tokens,
                              Span<float> logits) {
  PrefillRequest request;
  request.tokens = tokens;
  request.chunk_tokens = static_cast<std::uint32_t>(tokens.size());
  request.logits = logits;
  request.on_layer = [this](const LayerReady&) { return check_cancel(); };
  return engine_->prefill(request, sequence);
}

Status ContextScorer::check_cancel() const {
  if (cancel_ != nullptr && *cancel_) return Status(ErrorCode::kCancelled, "cancelled");
  return Status();
}

}  // namespace kvferry
