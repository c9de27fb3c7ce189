#include "generation.hpp"

#include <algorithm>
#include <string>
#include <utility>

#include "kvferry/core/stopwatch.hpp"
#include "kvferry/engine/sampler.hpp"
#include "kvferry/node/publish_layer.hpp"

namespace kvferry::cli {
namespace {

Status check(const std::atomic<bool>& cancel) {
  return cancel ? Status(ErrorCode::kCancelled, "cancelled") : Status();
}

std::size_t cache_room(const LoadedModel& model) {
  return std::size_t{model.pool->capacity_blocks()} * kBlockTokens;
}

// How long the answer may become. Its last token needs no place in the cache.
std::size_t answer_tokens(const LoadedModel& model, const GenerationRequest& request) {
  const std::size_t prompt = request.prompt.size();
  const std::size_t context = model.config().context_length - prompt;
  if (request.max_tokens != 0) return std::min<std::size_t>(request.max_tokens, context);
  return std::min(context, cache_room(model) - prompt + 1);
}

Status check_room(const LoadedModel& model, const GenerationRequest& request) {
  const std::size_t prompt = request.prompt.size();
  const std::size_t answer = request.max_tokens == 0 ? 1 : answer_tokens(model, request);
  if (prompt + answer - 1 <= cache_room(model)) return {};
  return Error(ErrorCode::kInvalidArgument,
               "a prompt of " + std::to_string(prompt) + " tokens and an answer of " +
                   std::to_string(answer) + " need more than the cache's " +
                   std::to_string(cache_room(model)) +
                   " tokens; raise --cache-tokens or lower --max-tokens");
}

}  // namespace

Result<Generation> prefill(const LoadedModel& model, const GenerationRequest& request,
                           std::vector<float>& logits, const std::atomic<bool>& cancel) {
  KVFERRY_TRY(check_room(model, request));
  const std::size_t prompt = request.prompt.size();
  Generation generation;
  generation.prefilled = KvSequence::create(model.pool);
  generation.prefilled->set_origin(model.origin());
  generation.sequence = generation.prefilled;
  std::unique_ptr<InProcessHandoff> handoff;
  if (request.handoff) {
    KVFERRY_ASSIGN(handoff, InProcessHandoff::start(model, generation.prefilled, request.prompt,
                                                    *request.handoff));
  }
  logits.resize(model.config().vocab);
  PrefillRequest prefill;
  prefill.tokens = request.prompt;
  prefill.chunk_tokens = request.chunk;
  prefill.logits = Span<float>(logits);
  prefill.on_layer = [&](const LayerReady& ready) -> Status {
    KVFERRY_TRY(check(cancel));
    return handoff ? publish_layer(*handoff, ready) : Status();
  };
  std::vector<float> attention;
  if (request.handoff && request.token_classes && is_quantised(*request.handoff)) {
    attention.resize(std::size_t{model.config().layers} * prompt);
    prefill.attention = attention;
  }
  const Stopwatch prefilling;
  KVFERRY_TRY(model.engine->prefill(prefill, *generation.prefilled));
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
  KVFERRY_TRY(check_room(model, request));
  KVFERRY_ASSIGN(Sampler sampler, Sampler::create(request.sampler));
  std::vector<TokenId> history = request.prompt;
  const std::size_t most = answer_tokens(model, request);
  while (generation.tokens.size() < most) {
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
    if (generation.tokens.size() == most) break;
    const DecodeInput input{generation.sequence.get(), token};
    const Stopwatch stepping;
    KVFERRY_TRY(model.engine->step(Span<const DecodeInput>(&input, 1), Span<float>(logits)));
    generation.timing.decode_seconds += stepping.seconds();
  }
  return {};
}

}  // namespace kvferry::cli
