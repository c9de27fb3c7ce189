// Generation: one sequence on the decode node, from the offer of its cache to its last token.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "kvferry/cache/sequence.hpp"
#include "kvferry/cache/sequence_adapters.hpp"
#include "kvferry/core/stopwatch.hpp"
#include "kvferry/engine/sampler.hpp"
#include "kvferry/handoff/report.hpp"
#include "kvferry/node/loaded_model.hpp"
#include "kvferry/node/text_stream.hpp"
#include "kvferry/node/token_stream.hpp"
#include "kvferry/wire/messages.hpp"

namespace kvferry {

// Not thread-safe: first the hand-off's threads have it, one call at a time, then the decode loop.
class Generation {
 public:
  // For an offer with a decode order. At most `max_tokens` are generated, whatever the order says.
  // `on_end` runs when the generation is destroyed.
  static Result<std::unique_ptr<Generation>> create(const LoadedModel& model,
                                                    const wire::Offer& offer,
                                                    std::uint32_t max_tokens,
                                                    std::function<void()> on_end);
  ~Generation();
  Generation(const Generation&) = delete;
  Generation& operator=(const Generation&) = delete;

  KvSequence& sequence() { return *sequence_; }
  SequenceSink& sink() { return sink_; }
  const std::shared_ptr<TokenStream>& stream() { return stream_; }

  // The token that the prefill node sampled.
  void take_first(const wire::FirstToken& first);
  // The cache is here. Ends the generation at once when the first token was the last.
  void take_cache(const HandoffReport& report);

  // The token to compute next. Only while !finished().
  TokenId last_token() const { return tokens_.back(); }
  // Samples the token that follows `logits` [vocab] and sends it to the client.
  void advance(Span<const float> logits);
  // Ends it: the client gets `error`.
  void fail(const Error& error);
  // Ends it without an error.
  void finish(wire::FinishReason reason);

  bool finished() const { return finished_; }
  // Somebody other than the decode loop has ended it: the client went away or cancelled.
  bool cancelled() const { return stream_->cancelled(); }

 private:
  Generation(const LoadedModel& model, wire::DecodeOrder order, Sampler sampler,
             std::vector<TokenId> prompt, std::function<void()> on_end);

  // Sends `token` to the client and ends the generation when it is the last one.
  void emit(TokenId token);

  const LoadedModel& model_;
  const wire::DecodeOrder order_;
  const std::shared_ptr<KvSequence> sequence_;
  SequenceSink sink_;
  const std::shared_ptr<TokenStream> stream_;
  Sampler sampler_;
  TextStream text_;
  std::vector<TokenId> tokens_;  // prompt and generated
  const std::size_t prompt_tokens_;
  HandoffReport handoff_;
  bool cached_ = false;
  bool ended_before_cache_ = false;  // the first token was the last one
  wire::FinishReason early_reason_ = wire::FinishReason::kStop;
  bool finished_ = false;
  Stopwatch decoding_;  // since the cache came
  const std::function<void()> on_end_;
};

}  // namespace kvferry
