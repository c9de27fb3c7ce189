#include "generation.hpp"

#include <utility>

namespace kvferry {

Result<std::unique_ptr<Generation>> Generation::create(const LoadedModel& model,
                                                       const wire::Offer& offer,
                                                       std::uint32_t max_tokens,
                                                       std::function<void()> on_end) {
  KVFERRY_ASSIGN(Sampler sampler,
                 Sampler::create(offer.decode->sampler, offer.decode->sampler_state));
  wire::DecodeOrder order = *offer.decode;
  order.max_tokens = max_tokens;
  std::unique_ptr<Generation> generation(
      new Generation(model, std::move(order), std::move(sampler), offer.tokens, std::move(on_end)));
  KvOrigin origin;
  origin.model = offer.identity.fingerprint();
  origin.provenance = offer.provenance;
  origin.provenance.codec_history |= std::uint32_t{1} << offer.profile;
  generation->sequence_->set_origin(std::move(origin));
  return generation;
}

Generation::Generation(const LoadedModel& model, wire::DecodeOrder order, Sampler sampler,
                       std::vector<TokenId> prompt, std::function<void()> on_end)
    : model_(model),
      order_(std::move(order)),
      sequence_(KvSequence::create(model.pool)),
      sink_(sequence_),
      stream_(std::make_shared<TokenStream>()),
      sampler_(std::move(sampler)),
      text_(model.tokenizer, order_.stop),
      tokens_(std::move(prompt)),
      prompt_tokens_(tokens_.size()),
      on_end_(std::move(on_end)) {}

Generation::~Generation() {
  // A client that still waits is told; after finish() or fail() this is dropped.
  stream_->fail(Error(ErrorCode::kCancelled, "the decode node ended the generation"));
  on_end_();
}

void Generation::take_first(const wire::FirstToken& first) {
  const auto sampler = Sampler::create(order_.sampler, first.sampler_state);
  if (!sampler.ok()) return fail(sampler.error());
  if (first.token >= model_.config().vocab) {
    return fail(Error(ErrorCode::kMalformed, "the prefill node's first token is id " +
                                                 std::to_string(first.token) +
                                                 ", which the model does not have"));
  }
  sampler_ = *sampler;
  emit(first.token);
}

void Generation::take_cache(const HandoffReport& report) {
  handoff_ = report;
  cached_ = true;
  if (tokens_.size() == prompt_tokens_ && !finished_) {
    return fail(Error(ErrorCode::kProtocol, "the prefill node sent no first token"));
  }
  decoding_ = Stopwatch();
  if (ended_before_cache_) finish(early_reason_);
}

void Generation::advance(Span<const float> logits) {
  const auto token = sampler_.sample(logits, tokens_);
  if (!token.ok()) return fail(token.error());
  emit(*token);
}

void Generation::emit(TokenId token) {
  const bool end_token = !order_.ignore_eos && model_.tokenizer.ends_generation(token);
  wire::Token message;
  message.index = static_cast<std::uint32_t>(tokens_.size() - prompt_tokens_);
  message.token = token;
  if (!end_token) {
    auto text = text_.push(token);
    if (!text.ok()) return fail(text.error());
    message.text = *std::move(text);
  }
  tokens_.push_back(token);
  stream_->push(std::move(message));

  const std::size_t generated = tokens_.size() - prompt_tokens_;
  if (end_token || text_.stopped()) return finish(wire::FinishReason::kStop);
  if (generated >= order_.max_tokens) return finish(wire::FinishReason::kLength);
}

void Generation::fail(const Error& error) {
  finished_ = true;
  stream_->fail(error);
}

void Generation::finish(wire::FinishReason reason) {
  if (!cached_) {  // the report to the client includes the hand-off, which is still under way
    ended_before_cache_ = true;
    early_reason_ = reason;
    return;
  }
  finished_ = true;
  const std::size_t generated = tokens_.size() - prompt_tokens_;
  const double seconds = decoding_.seconds();
  wire::Done done;
  done.reason = reason;
  done.text = text_.flush();
  done.report = {
      {"tokens", static_cast<double>(generated)},
      {"decode_seconds", seconds},
      {"seconds_per_token", generated > 1 ? seconds / static_cast<double>(generated - 1) : 0.0},
      {"wire_bytes", static_cast<double>(handoff_.wire_bytes)},
      {"model_data_bytes", static_cast<double>(handoff_.model_data_bytes)},
      {"blocks", static_cast<double>(handoff_.blocks)},
      {"handoff_seconds", handoff_.total_seconds},
      {"receive_seconds", handoff_.receive_seconds},
      {"block_decode_seconds", handoff_.decode_seconds},
      {"write_seconds", handoff_.write_seconds},
      {"commit_seconds", handoff_.commit_seconds},
  };
  stream_->finish(std::move(done));
}

}  // namespace kvferry
