// HandoffSender: the sending side of a hand-off as a state machine without input or output of its
// own. It takes frames, time and local events, and gives frames and blocks to encode; it owns no
// socket, thread or clock, and the same inputs give the same outputs. SendSession drives it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "kvferry/cache/geometry.hpp"
#include "kvferry/codec/block.hpp"
#include "kvferry/handoff/block_planner.hpp"
#include "kvferry/handoff/outgoing_blocks.hpp"
#include "kvferry/handoff/outgoing_frame.hpp"
#include "kvferry/handoff/peer_watch.hpp"
#include "kvferry/handoff/report.hpp"
#include "kvferry/handoff/terms.hpp"
#include "kvferry/wire/model_data.hpp"
#include "kvferry/wire/serialize.hpp"

namespace kvferry {

struct SenderOptions {
  wire::FrameAddress address;  // handoff, epoch, and which of the offer's sources this is
  bool sends_first_token = true;
  std::uint32_t max_payload = wire::kMaxPayload;  // that the receiver takes
  std::size_t pending_bytes = 4u << 20;  // coded blocks that may wait, and be in the making
  HandoffTimeouts timeouts;
  // Serialised forms of what the offer names, for a receiver that wants them; they outlive the
  // machine. Empty: it goes without.
  Bytes codebook;
  Bytes predictor;
  bool predictor_ahead = false;  // of the blocks, which then wait for it; else it is left out
};

class HandoffSender {
 public:
  enum class State {
    kOffered,    // waits for the answer
    kStreaming,  // blocks go out as they are published, encoded and credited
    kEnding,     // END is out, waits for COMMITTED
    kCommitted,
    kFailed,
  };

  // kInvalidArgument unless the offer can be serialized and declares something of this source, and
  // `geometry`, the source's, has those layers in the offer's shape.
  static Result<HandoffSender> create(wire::Offer offer, const KvGeometry& geometry,
                                      const SenderOptions& options, TimePoint now);

  // What happens outside -------------------------------------------------------------------------

  void on_frame(const wire::Frame& frame, TimePoint now);
  // Bytes came, though not yet a whole frame.
  void on_bytes(TimePoint now) { watch_.heard(now); }
  // To be called several times a second.
  void on_tick(TimePoint now);
  // The connection is gone.
  void on_broken(const Error& error) { fail(while_state(error)); }
  // The peer's bytes are no frames: it is told, if it listens.
  void on_malformed(const Error& error);

  // The contract of SendSession.
  Status publish(std::uint32_t layer, std::uint32_t begin, std::uint32_t end);
  Status send_first_token(const wire::FirstToken& token);
  void cancel(const Error& reason);

  // What is to be done ---------------------------------------------------------------------------

  // The next block to read and encode, if one is published and there is room for it. Each one is
  // answered by block_encoded() or block_failed(), in any order.
  std::optional<KvRange> take_block();
  // `block`: outgoing_block() with this sender's address and the offer's profile.
  void block_encoded(const KvRange& range, OutgoingFrame block);
  void block_failed(const Error& error);

  // The next frame to send. What is small and urgent overtakes the blocks: the first token, pings,
  // errors. The codebook and the predictor go ahead of all blocks.
  std::optional<OutgoingFrame> take_frame(TimePoint now);

  State state() const { return state_; }
  bool is_over() const { return state_ == State::kCommitted || state_ == State::kFailed; }
  // Of kFailed.
  const Error& error() const { return *error_; }
  // Once it is there.
  const std::optional<wire::Accept>& accept() const { return accept_; }
  // Of kCommitted.
  const wire::Committed& committed() const { return committed_; }

  // What blocks are made with, once accept() is there.
  bool uses_codebook() const { return uses_codebook_; }
  bool uses_predictor() const { return uses_predictor_; }
  // The receiver wants the predictor, and this hand-off does without.
  bool owes_predictor() const { return owes_predictor_; }

  std::uint64_t model_data_bytes_sent() const { return model_data_bytes_; }
  std::uint64_t blocks_sent() const { return blocks_.sent_blocks(); }
  std::uint64_t payload_bytes_sent() const { return blocks_.sent_bytes(); }
  // Frames that belonged to another hand-off or epoch.
  std::uint64_t frames_dropped() const { return dropped_; }

 private:
  HandoffSender(wire::Offer offer, const KvGeometry& geometry, const SenderOptions& options,
                TimePoint now);

  static std::vector<wire::CoveragePart> parts_of(const wire::Offer& offer, std::uint16_t source) {
    std::vector<wire::CoveragePart> parts;
    for (const wire::CoveragePart& part : offer.coverage) {
      if (part.source == source) parts.push_back(part);
    }
    return parts;
  }

  Status handle(const wire::Frame& frame, TimePoint now);
  Status handle_accept(Bytes payload);
  Status handle_credit(Bytes payload);
  Status handle_committed(Bytes payload);
  bool wants_first_token() const { return offer_.decode.has_value() && options_.sends_first_token; }
  bool waits_for_credit() const { return state_ == State::kStreaming && blocks_.wait_for_credit(); }
  bool all_sent() const {
    return state_ == State::kStreaming && planner_.rows_left() == 0 && model_data_.empty() &&
           (!wants_first_token() || first_token_sent_);
  }
  OutgoingFrame make_end();
  void choose_model_data(const wire::Accept& accept);
  OutgoingFrame next_model_data();
  void fail(const Error& error);
  void finish_with(State state, std::optional<Error> error);
  Error while_state(const Error& error) const;

  wire::Offer offer_;
  KvGeometry geometry_;
  SenderOptions options_;
  std::vector<wire::CoveragePart> parts_;  // of this source
  BlockPlanner planner_;
  State state_ = State::kOffered;
  std::optional<Error> error_;
  PeerWatch watch_;
  TimePoint asked_;  // when the receiver was last asked for an answer: OFFER, END
  std::optional<TimePoint> blocked_since_;  // blocks wait for credit

  std::optional<wire::Accept> accept_;
  wire::Committed committed_;
  std::uint32_t block_tokens_ = 0;  // most tokens of a block
  OutgoingBlocks blocks_;
  bool uses_codebook_ = false;
  bool uses_predictor_ = false;
  bool owes_predictor_ = false;
  std::deque<wire::ModelDataPieces> model_data_;  // to be sent ahead of the blocks
  std::uint64_t model_data_bytes_ = 0;

  std::deque<OutgoingFrame> urgent_;
  std::optional<OutgoingFrame> first_token_;
  bool first_token_given_ = false;
  bool first_token_sent_ = false;
  std::uint64_t dropped_ = 0;
};

inline Result<HandoffSender> HandoffSender::create(wire::Offer offer, const KvGeometry& geometry,
                                                   const SenderOptions& options, TimePoint now) {
  std::vector<std::uint8_t> bytes;
  KVFERRY_TRY(wire::serialize(offer, bytes));
  const auto refuse = [](const std::string& what) {
    return Error(ErrorCode::kInvalidArgument, "hand-off: " + what);
  };
  if (bytes.size() > options.max_payload) {
    return Error(ErrorCode::kResourceExhausted, "hand-off: the offer takes " +
                                                    std::to_string(bytes.size()) +
                                                    " bytes, the receiver takes payloads of " +
                                                    std::to_string(options.max_payload));
  }
  if (geometry.kv_heads != offer.kv_heads || geometry.head_dim != offer.head_dim ||
      geometry.type != offer.type || geometry.rope != offer.rope) {
    return refuse("the source's rows are not of the shape, type or RoPE that the offer declares");
  }
  HandoffSender sender(std::move(offer), geometry, options, now);
  if (sender.parts_.empty()) {
    return refuse("the offer declares nothing for source " +
                  std::to_string(options.address.source));
  }
  for (const wire::CoveragePart& part : sender.parts_) {
    if (geometry.holds_layer(part.first_layer) && geometry.holds_layer(part.end_layer - 1))
      continue;
    return refuse("the offer declares layers [" + std::to_string(part.first_layer) + ", " +
                  std::to_string(part.end_layer) + ") for this source, which does not hold them");
  }
  return sender;
}

inline HandoffSender::HandoffSender(wire::Offer offer, const KvGeometry& geometry,
                                    const SenderOptions& options, TimePoint now)
    : offer_(std::move(offer)),
      geometry_(geometry),
      options_(options),
      parts_(parts_of(offer_, options.address.source)),
      planner_(parts_),
      watch_(options.timeouts, "receiver", now),
      asked_(now),
      blocks_(options.address.source, options.pending_bytes) {
  urgent_.push_back(outgoing(wire::MessageType::kOffer, options_.address, offer_));
}

inline void HandoffSender::on_frame(const wire::Frame& frame, TimePoint now) {
  if (is_over()) return;
  watch_.heard(now);
  const Status handled = handle(frame, now);
  if (!handled.ok()) on_malformed(handled.error());
}

inline void HandoffSender::on_malformed(const Error& error) {
  if (is_over()) return;
  urgent_.push_back(outgoing_error(options_.address, error));
  fail(error);
}

inline Status HandoffSender::handle(const wire::Frame& frame, TimePoint now) {
  const wire::FrameAddress& address = frame.header.address;
  const bool of_connection = address.handoff == 0;
  // An OFFER is never late, so that one from the receiver is not taken for a frame of an earlier
  // hand-off.
  if (!of_connection && frame.header.type != wire::MessageType::kOffer &&
      (address.handoff != options_.address.handoff || address.epoch != options_.address.epoch ||
       address.source != options_.address.source)) {
    ++dropped_;
    return {};
  }
  if (PeerWatch::concerns(frame.header)) {
    KVFERRY_TRY(watch_.on_frame(frame, now, urgent_));
    if (watch_.ended()) fail(of_connection ? while_state(*watch_.ended()) : *watch_.ended());
    return {};
  }
  switch (frame.header.type) {
    case wire::MessageType::kAccept:
      return handle_accept(frame.payload);
    case wire::MessageType::kCredit:
      return handle_credit(frame.payload);
    case wire::MessageType::kCommitted:
      return handle_committed(frame.payload);
    default:
      return Error(ErrorCode::kProtocol, std::string(wire::name_of(frame.header.type)) +
                                             " is not a message to the sender of a hand-off");
  }
}

inline Status HandoffSender::handle_accept(Bytes payload) {
  if (state_ != State::kOffered) {
    return Error(ErrorCode::kProtocol, "a second ACCEPT of one hand-off");
  }
  KVFERRY_ASSIGN(wire::Accept accept, wire::parse_accept(payload));
  KVFERRY_TRY(check_accept(offer_, accept));
  KVFERRY_ASSIGN(block_tokens_,
                 choose_block_tokens(geometry_, accept.credit, options_.max_payload));
  KVFERRY_TRY(blocks_.grant(accept.credit));
  choose_model_data(accept);
  planner_.start(first_sent(offer_, accept.held_prefix), accept.resume, block_tokens_,
                 uses_predictor_);
  accept_ = std::move(accept);
  state_ = State::kStreaming;
  return {};
}

inline void HandoffSender::choose_model_data(const wire::Accept& accept) {
  using wire::ModelDataAnswer;
  using wire::ModelDataKind;
  const bool sends_codebook =
      accept.codebook == ModelDataAnswer::kWants && !options_.codebook.empty();
  uses_codebook_ = accept.codebook == ModelDataAnswer::kHas || sends_codebook;
  const bool may_send_predictor =
      uses_codebook_ && accept.predictor == ModelDataAnswer::kWants && !options_.predictor.empty();
  const bool sends_predictor = may_send_predictor && options_.predictor_ahead;
  uses_predictor_ =
      uses_codebook_ && (accept.predictor == ModelDataAnswer::kHas || sends_predictor);
  owes_predictor_ = may_send_predictor && !options_.predictor_ahead;
  if (sends_codebook) {
    model_data_.emplace_back(ModelDataKind::kCodebook, offer_.codebook, options_.codebook,
                             options_.max_payload);
  }
  if (sends_predictor) {
    model_data_.emplace_back(ModelDataKind::kPredictor, offer_.predictor, options_.predictor,
                             options_.max_payload);
  }
}

inline OutgoingFrame HandoffSender::next_model_data() {
  const wire::ModelData data = model_data_.front().next();
  if (model_data_.front().empty()) model_data_.pop_front();
  model_data_bytes_ += data.bytes.size();
  return outgoing(wire::MessageType::kModelData, options_.address, data);
}

inline Status HandoffSender::publish(std::uint32_t layer, std::uint32_t begin, std::uint32_t end) {
  if (state_ == State::kFailed) return error();
  return planner_.publish(layer, begin, end);
}

inline Status HandoffSender::send_first_token(const wire::FirstToken& token) {
  if (state_ == State::kFailed) return error();
  if (!wants_first_token() || first_token_given_) {
    return Error(ErrorCode::kInvalidArgument,
                 first_token_given_ ? "hand-off: the first token was given before"
                                    : "hand-off: this source's offer calls for no first token");
  }
  OutgoingFrame frame;
  KVFERRY_TRY(wire::serialize(token, frame.head));
  frame.header = wire::make_header(wire::MessageType::kFirstToken, options_.address, frame.head);
  first_token_ = std::move(frame);
  first_token_given_ = true;
  return {};
}

inline std::optional<KvRange> HandoffSender::take_block() {
  if (state_ != State::kStreaming || !planner_.has_block()) return std::nullopt;
  if (!blocks_.has_room(maximum_encoded_size(geometry_, block_tokens_))) return std::nullopt;
  blocks_.begin_making();
  return planner_.take();
}

inline void HandoffSender::block_encoded(const KvRange& range, OutgoingFrame block) {
  planner_.made(range);
  if (state_ == State::kStreaming) {
    blocks_.add(range, std::move(block));
  } else {
    blocks_.give_up_making();
  }
}

inline void HandoffSender::block_failed(const Error& error) {
  blocks_.give_up_making();
  if (is_over()) return;
  urgent_.push_back(outgoing_error(options_.address, error));
  fail(error);
}

inline std::optional<OutgoingFrame> HandoffSender::take_frame(TimePoint now) {
  std::optional<OutgoingFrame> frame;
  if (!urgent_.empty()) {
    frame = std::move(urgent_.front());
    urgent_.pop_front();
  } else if (state_ == State::kStreaming && first_token_) {
    frame = std::move(first_token_);
    first_token_.reset();
    first_token_sent_ = true;
  } else if (state_ == State::kStreaming && !model_data_.empty()) {
    frame = next_model_data();
  } else if (all_sent()) {
    frame = make_end();
    state_ = State::kEnding;
    asked_ = now;
  } else if (state_ == State::kStreaming) {
    if (auto block = blocks_.take()) {
      planner_.mark_sent(block->range);
      frame = std::move(block->frame);
    }
  }
  if (frame) watch_.sent(now);
  return frame;
}

inline OutgoingFrame HandoffSender::make_end() {
  return outgoing(wire::MessageType::kEnd, options_.address,
                  wire::End{blocks_.sent_blocks(), blocks_.sent_bytes(), blocks_.digest()});
}

inline Status HandoffSender::handle_credit(Bytes payload) {
  if (state_ == State::kOffered) return Error(ErrorCode::kProtocol, "CREDIT before ACCEPT");
  KVFERRY_ASSIGN(const wire::Credit credit, wire::parse_credit(payload));
  if (credit.total > blocks_.credit()) blocked_since_.reset();
  return blocks_.grant(credit.total);
}

inline Status HandoffSender::handle_committed(Bytes payload) {
  if (state_ != State::kEnding) return Error(ErrorCode::kProtocol, "COMMITTED before END");
  KVFERRY_ASSIGN(committed_, wire::parse_committed(payload));
  const bool only_source = parts_.size() == offer_.coverage.size();
  if (only_source && committed_.digest != blocks_.digest()) {
    return Error(ErrorCode::kChecksum,
                 "the receiver committed other blocks than were sent: the digests differ");
  }
  if (committed_.length < offer_.tokens.size()) {
    return Error(ErrorCode::kIncomplete,
                 "the receiver committed a sequence of " + std::to_string(committed_.length) +
                     " tokens, " + std::to_string(offer_.tokens.size()) + " were handed over");
  }
  finish_with(State::kCommitted, std::nullopt);
  return {};
}

inline void HandoffSender::on_tick(TimePoint now) {
  if (is_over()) return;
  if (!waits_for_credit()) blocked_since_.reset();
  if (waits_for_credit() && !blocked_since_) blocked_since_ = now;
  const HandoffTimeouts& timeouts = options_.timeouts;
  const auto waited = now - asked_;
  std::optional<Error> late;
  if (watch_.is_silent(now)) {
    late = while_state(watch_.silence_error());
  } else if (state_ == State::kOffered && waited >= timeouts.accept) {
    late = Error(ErrorCode::kTimeout, "the receiver did not answer the offer in time");
  } else if (blocked_since_ && now - *blocked_since_ >= timeouts.stall) {
    late = Error(ErrorCode::kTimeout, "the receiver gave no credit for further blocks in time");
  } else if (state_ == State::kEnding && waited >= timeouts.commit) {
    late = while_state(Error(ErrorCode::kTimeout, "the receiver did not commit in time"));
  }
  if (late) {
    urgent_.push_back(outgoing_error(options_.address, *late));
    fail(*late);
  } else if (watch_.wants_ping(now)) {
    urgent_.push_back(watch_.make_ping(now));
    watch_.sent(now);
  }
}

inline void HandoffSender::cancel(const Error& reason) {
  if (is_over()) return;
  urgent_.push_back(outgoing_cancel(options_.address, reason));
  fail(while_state(reason));
}

inline void HandoffSender::fail(const Error& error) {
  if (!is_over()) finish_with(State::kFailed, error);
}

inline void HandoffSender::finish_with(State state, std::optional<Error> error) {
  state_ = state;
  error_ = std::move(error);
  planner_.clear();
  blocks_.clear();
  first_token_.reset();
  model_data_.clear();
}

// After END the receiver may have committed without our knowing.
inline Error HandoffSender::while_state(const Error& error) const {
  if (state_ != State::kEnding) return error;
  return Error(error.code, error.message +
                               "; all blocks were sent, and whether they were committed is not "
                               "known");
}

}  // namespace kvferry
