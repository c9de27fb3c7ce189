#include "generation.hpp"

#include <chrono>
#include <utility>

#include "kvferry/engine/sampler.hpp"

namespace kvferry::cli {
namespace {

class Stopwatch {
 public:
  double seconds() const {
    return std::chrono::duration<double>(Deadline::Clock::now() - start_).count();
  }

 private:
  Deadline::Clock::time_point start_ = Deadline::Clock::now();
};

Status check(const std::atomic<bool>& cancel) {
  return cancel ? Status(ErrorCode::kCancelled, "cancelled") : Status();
}

}  // namespace

Result<Generation> prefill(const LoadedModel& model, const GenerationRequest& request,
                           std::vector<float>& logits, const std::atomic<bool>& cancel) {
  Generation generation;
  generation.sequence = KvSequence::create(model.pool);
  generation.sequence->set_origin(model.origin());
  std::unique_ptr<InProcessHandoff> handoff;
  if (request.handoff) {
    KVFERRY_ASSIGN(handoff, InProcessHandoff::start(model, generation.sequence, request.prompt,
                                                    *request.handoff, request.codebook));
  }
  logits.resize(model.config().vocab);
  PrefillRequest prefill;
  prefill.tokens = request.prompt;
  prefill.chunk_tokens = request.chunk;
  prefill.logits = Span<float>(logits);
  prefill.on_layer = [&](const LayerReady& ready) -> Status {
    KVFERRY_TRY(check(cancel));
    if (!handoff) return {};
    KVFERRY_TRY(ready.fence.wait());
    return handoff->publish(ready.layer, ready.begin, ready.end);
  };
  const Stopwatch prefilling;
  KVFERRY_TRY(model.engine->prefill(prefill, *generation.sequence));
  generation.timing.prefill_seconds = prefilling.seconds();
  if (handoff) {
    const Stopwatch waiting;
    KVFERRY_ASSIGN(generation.handoff, handoff->finish());
    generation.sequence = generation.handoff->sequence;
    generation.timing.handoff_seconds = waiting.seconds();
  }
  return generation;
}

Status decode(const LoadedModel& model, const GenerationRequest& request,
              std::vector<float>& logits, Generation& generation, const OnStep& on_step,
              const std::atomic<bool>& cancel) {
  KVFERRY_ASSIGN(Sampler sampler, Sampler::create(request.sampler));
  std::vector<TokenId> history = request.prompt;
  const std::size_t limit = model.config().context_length;
  while (generation.tokens.size() < request.max_tokens) {
    KVFERRY_TRY(check(cancel));
    TokenId token = 0;
    if (generation.tokens.size() < request.forced.size()) {
      token = request.forced[generation.tokens.size()];
    } else {
      KVFERRY_ASSIGN(token, sampler.sample(logits, history));
    }
    generation.tokens.push_back(token);
    history.push_back(token);
    KVFERRY_TRY(on_step(token, logits));
    const bool forced = generation.tokens.size() <= request.forced.size();
    if (!forced && !request.ignore_eos && model.tokenizer.ends_generation(token)) break;
    if (generation.tokens.size() == request.max_tokens || history.size() >= limit) break;
    const DecodeInput input{generation.sequence.get(), token};
    const Stopwatch stepping;
    KVFERRY_TRY(model.engine->step(Span<const DecodeInput>(&input, 1), Span<float>(logits)));
    generation.timing.decode_seconds += stepping.seconds();
  }
  return {};
}

}  // namespace kvferry::cli
