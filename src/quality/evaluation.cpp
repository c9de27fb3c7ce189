#include "kvferry/quality/evaluation.hpp"

#include <algorithm>

#include "kvferry/core/half.hpp"

namespace kvferry {
namespace {

// Tokens whose logits are computed together; a power of two, so that batches are full.
constexpr std::size_t kScoredTogether = 128;

class Evaluator {
 public:
  Evaluator(Engine& engine, const std::vector<std::unique_ptr<CacheCodec>>& codecs,
            const EvaluationOptions& options)
      : engine_(engine), codecs_(codecs), options_(options), threads_(options.threads) {}

  Result<Evaluation> run(const EvaluationContexts& contexts) {
    std::size_t longest = 0, longest_continuation = 0;
    for (const EvaluationContext& context : contexts.contexts) {
      longest = std::max(longest, context.prompt.size());
      for (const Continuation& c : context.continuations) {
        longest_continuation = std::max(longest_continuation, c.tokens.size());
        ++total_;
      }
    }
    total_ *= codecs_.size();
    // The reference, the copy, and a continuation on top of one of them.
    KvGeometry geometry = engine_.geometry();
    geometry.type = ElementType::kF32;
    const auto blocks = 2 * KvPool::blocks_for(static_cast<std::uint32_t>(longest)) +
                        KvPool::blocks_for(static_cast<std::uint32_t>(longest_continuation)) + 2;
    KVFERRY_ASSIGN(pool_, KvPool::create(geometry, blocks));

    Evaluation out;
    out.sets = contexts.sets;
    for (const auto& codec : codecs_) {
      out.codecs.push_back(
          {codec->name(), codec->is_baseline(), std::vector<SetFigures>(out.sets.size())});
      meters_.emplace_back(out.sets.size());
    }
    for (const EvaluationContext& context : contexts.contexts) {
      KVFERRY_TRY(run_context(context, out));
    }
    for (std::size_t c = 0; c < codecs_.size(); ++c) {
      for (std::size_t s = 0; s < out.sets.size(); ++s)
        out.codecs[c].sets[s].divergence = meters_[c][s].result();
    }
    return out;
  }

 private:
  Status run_context(const EvaluationContext& context, Evaluation& out) {
    KVFERRY_TRY(check_cancel());
    const std::shared_ptr<KvSequence> reference = KvSequence::create(pool_);
    const std::size_t layers = engine_.geometry().layers;
    std::vector<float> attention(layers * context.prompt.size());
    PrefillRequest request;
    request.tokens = context.prompt;
    request.chunk_tokens = options_.chunk_tokens != 0
                               ? options_.chunk_tokens
                               : static_cast<std::uint32_t>(context.prompt.size());
    request.attention = attention;
    request.on_layer = [this](const LayerReady&) { return check_cancel(); };
    KVFERRY_TRY(engine_.prefill(request, *reference));
    KVFERRY_ASSIGN(ContextCache cache, ContextCache::read(*reference));
    cache.attention = std::move(attention);
    cache.chunk_tokens = request.chunk_tokens;

    std::vector<std::vector<float>> expected;
    for (const Continuation& continuation : context.continuations) {
      KVFERRY_ASSIGN(std::vector<float> logits, logits_of(*reference, continuation));
      expected.push_back(std::move(logits));
    }
    ContextCache copy = cache;
    for (std::size_t c = 0; c < codecs_.size(); ++c) {
      KVFERRY_TRY(check_cancel());
      KVFERRY_ASSIGN(const std::uint64_t bits, codecs_[c]->recode(cache, threads_, copy.values));
      for (float& value : copy.values) value = to_float(to_half(value));
      KVFERRY_ASSIGN(const std::shared_ptr<KvSequence> sequence, copy.write(pool_));
      for (std::size_t i = 0; i < context.continuations.size(); ++i) {
        const Continuation& continuation = context.continuations[i];
        SetFigures& figures = out.codecs[c].sets[continuation.set];
        figures.bits += bits;
        figures.values += cache.values.size();
        KVFERRY_TRY(compare(*sequence, continuation, expected[i], meters_[c][continuation.set]));
        if (options_.on_progress) options_.on_progress(++done_, total_);
      }
    }
    return Status();
  }

  // Logits after each token of `tokens` [tokens, vocab], which are appended to the sequence.
  Status read_in(KvSequence& sequence, Span<const TokenId> tokens, Span<float> logits) {
    PrefillRequest request;
    request.tokens = tokens;
    request.chunk_tokens = static_cast<std::uint32_t>(tokens.size());
    request.logits = logits;
    request.on_layer = [this](const LayerReady&) { return check_cancel(); };
    return engine_.prefill(request, sequence);
  }

  Result<std::vector<float>> logits_of(const KvSequence& cache, const Continuation& continuation) {
    KVFERRY_ASSIGN(const std::shared_ptr<KvSequence> sequence, cache.fork(cache.length()));
    std::vector<float> logits(continuation.tokens.size() * engine_.config().vocab);
    KVFERRY_TRY(read_in(*sequence, continuation.tokens, logits));
    return logits;
  }

  Status compare(const KvSequence& cache, const Continuation& continuation,
                 const std::vector<float>& expected, DivergenceMeter& meter) {
    KVFERRY_ASSIGN(const std::shared_ptr<KvSequence> sequence, cache.fork(cache.length()));
    const std::size_t vocab = engine_.config().vocab;
    const std::vector<TokenId>& tokens = continuation.tokens;
    std::vector<float> logits(std::min(kScoredTogether, tokens.size()) * vocab);
    std::vector<RowDivergence> rows(tokens.size());
    for (std::size_t first = 0; first < tokens.size(); first += kScoredTogether) {
      const std::size_t count = std::min(kScoredTogether, tokens.size() - first);
      KVFERRY_TRY(read_in(*sequence, Span<const TokenId>(tokens).subspan(first, count),
                          Span<float>(logits).first(count * vocab)));
      threads_.parallel_for(count, 4, [&](std::size_t begin, std::size_t end, std::size_t) {
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

  Status check_cancel() const {
    if (options_.cancel != nullptr && *options_.cancel)
      return Status(ErrorCode::kCancelled, "the evaluation was cancelled");
    return Status();
  }

  Engine& engine_;
  const std::vector<std::unique_ptr<CacheCodec>>& codecs_;
  const EvaluationOptions& options_;
  ThreadPool threads_;
  std::shared_ptr<KvPool> pool_;
  std::vector<std::vector<DivergenceMeter>> meters_;  // [codecs, sets]
  std::size_t done_ = 0;
  std::size_t total_ = 0;
};

}  // namespace

Result<Evaluation> evaluate(Engine& engine, const EvaluationContexts& contexts,
                            const std::vector<std::unique_ptr<CacheCodec>>& codecs,
                            const EvaluationOptions& options) {
  return Evaluator(engine, codecs, options).run(contexts);
}

}  // namespace kvferry
