#include "kvferry/quality/evaluation.hpp"

#include "context_scorer.hpp"

namespace kvferry {

Result<Evaluation> evaluate(Engine& engine, const EvaluationContexts& contexts,
                            const std::vector<std::unique_ptr<CacheCodec>>& codecs,
                            const EvaluationOptions& options) {
  KVFERRY_ASSIGN(ContextScorer scorer, ContextScorer::create(engine, contexts, options.cancel));
  ThreadPool threads(options.threads);
  Evaluation out;
  out.sets = contexts.sets;
  std::vector<std::vector<DivergenceMeter>> meters;  // [codecs, sets]
  for (const auto& codec : codecs) {
    out.codecs.push_back(
        {codec->name(), codec->is_baseline(), std::vector<SetFigures>(out.sets.size())});
    meters.emplace_back(out.sets.size());
  }
  std::size_t done = 0, total = 0;
  for (const EvaluationContext& context : contexts.contexts)
    total += context.continuations.size() * codecs.size();

  for (const EvaluationContext& context : contexts.contexts) {
    KVFERRY_TRY(scorer.load(context));
    ContextCache copy = scorer.cache();
    for (std::size_t c = 0; c < codecs.size(); ++c) {
      KVFERRY_ASSIGN(const std::uint64_t bits,
                     codecs[c]->recode(scorer.cache(), threads, copy.values));
      for (std::size_t i = 0; i < context.continuations.size(); ++i) {
        const std::size_t set = context.continuations[i].set;
        KVFERRY_TRY(scorer.score(copy, i, threads, meters[c][set]));
        out.codecs[c].sets[set].bits += bits;
        out.codecs[c].sets[set].values += copy.values.size();
        if (options.on_progress) options.on_progress(++done, total);
      }
    }
  }
  for (std::size_t c = 0; c < codecs.size(); ++c) {
    for (std::size_t s = 0; s < out.sets.size(); ++s)
      out.codecs[c].sets[s].divergence = meters[c][s].result();
  }
  return out;
}

}  // namespace kvferry
