// HandoffReceiver: the receiving side of a hand-off as a state machine without input or output of
// its own, for one source or several. It takes frames, time and the application's answers, and
// gives frames and events; it owns no socket, thread or clock, and the same inputs give the same
// outputs. ReceiveSession drives it.
#pragma once

#include <algorithm>
#include <cassert>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <optional>
#include <string>
#include <utility>

#include "kvferry/cache/source_sink.hpp"
#include "kvferry/handoff/incoming_cache.hpp"
#include "kvferry/handoff/incoming_model_data.hpp"
#include "kvferry/handoff/outgoing_frame.hpp"
#include "kvferry/handoff/peer_watch.hpp"
#include "kvferry/handoff/report.hpp"
#include "kvferry/handoff/shared_offer.hpp"
#include "kvferry/handoff/terms.hpp"
#include "kvferry/model/identity.hpp"
#include "kvferry/wire/serialize.hpp"

namespace kvferry {

struct ReceiverOptions {
  std::uint64_t credit = 4u << 20;  // payload bytes of blocks under way, or waiting to be written
  HandoffTimeouts timeouts;
};

class HandoffReceiver {
 public:
  enum class State {
    kWaiting,   // for the first offer
    kDeciding,  // the application has the offer: accept() or refuse()
    kReceiving,
    kCommitting,  // everything came; the application commits: committed() or commit_failed()
    kCommitted,
    kFailed,
  };

  using BlockEvent = IncomingBlock;  // to decode and write

  HandoffReceiver(const ModelIdentity& identity, const ReceiverOptions& options)
      : identity_(identity), options_(options) {}

  // What happens outside -------------------------------------------------------------------------

  // A connection on which a source is about to send its offer. Returns its number.
  std::size_t add_link(TimePoint now);
  // Frames of a link that is_over() are ignored.
  void on_frame(std::size_t link, wire::Frame frame, TimePoint now);
  // Bytes came, though not yet a whole frame.
  void on_bytes(std::size_t link, TimePoint now) { links_[link].watch.heard(now); }
  // To be called several times a second.
  void on_tick(TimePoint now);
  // The connection is gone.
  void on_broken(std::size_t link, const Error& error);
  // The peer's bytes are no frames: it is told, if it listens.
  void on_malformed(std::size_t link, const Error& error);
  void cancel(const Error& reason);

  // What the application answers -----------------------------------------------------------------

  const wire::Offer& offer() const { return offer_.get(); }
  // `terms` for which plan_import() succeeds. What `answers` want is asked for.
  void accept(const HandoffTerms& terms, TimePoint now, const ModelDataAnswers& answers = {});
  void refuse(const Error& reason);
  void first_token_taken();
  void first_token_refused(const Error& error);
  void model_data_taken(wire::ModelDataKind kind);
  void model_data_refused(const Error& error);
  void block_written(const BlockEvent& block);
  void block_failed(const Error& error);
  void committed(const KvCommit& commit);
  void commit_failed(const Error& error);

  // What is to be done ---------------------------------------------------------------------------

  // True once, when the application has to decide on offer().
  bool take_offer();
  // Once, as soon as it is there; answered by first_token_taken() or first_token_refused().
  std::optional<wire::FirstToken> take_first_token();
  // A codebook or predictor that was asked for; answered by model_data_taken() or
  // model_data_refused().
  std::optional<ReceivedModelData> take_model_data() { return model_data_.take(); }
  // The next block; each is answered by block_written() or block_failed(), in any order.
  std::optional<BlockEvent> take_block();
  // True once, when everything was written and the application has to commit.
  bool take_commit();
  std::optional<OutgoingFrame> take_frame(std::size_t link, TimePoint now);

  State state() const { return state_; }
  bool is_over() const { return state_ == State::kCommitted || state_ == State::kFailed; }
  // False once every source has sent its END: what is left to do happens here.
  bool awaits_frames() const { return !is_over() && !incoming_.all_ended(); }
  // A link can be over, for another reason, while the hand-off goes on: its offer was not fit.
  bool is_over(std::size_t link) const { return is_over() || links_[link].error.has_value(); }
  // Its offer was not fit for this hand-off.
  bool refused(std::size_t link) const { return links_[link].error.has_value(); }
  // Of a link that is over without a commit.
  const Error& error(std::size_t link) const {
    return links_[link].error ? *links_[link].error : *error_;
  }
  const KvCommit& commit() const { return commit_; }

  // Blocks given as events and not answered. The cache may only be aborted when there are none.
  std::size_t blocks_out() const { return incoming_.blocks_out(); }
  std::uint64_t blocks_received() const { return incoming_.blocks(); }
  std::uint64_t payload_bytes_received() const { return incoming_.payload_bytes(); }
  // The source was asked for the predictor, and nothing of it came: it may come when the hand-off
  // is over.
  bool awaits_predictor(std::size_t link) const {
    return model_data_.awaits_predictor(links_[link].address.source);
  }
  std::uint64_t model_data_bytes_received() const { return model_data_.bytes(); }
  // Frames that belonged to another hand-off or epoch, and blocks that came twice.
  std::uint64_t frames_dropped() const { return dropped_ + incoming_.duplicates(); }

 private:
  struct Link {
    Link(const HandoffTimeouts& timeouts, TimePoint now) : watch(timeouts, "sender", now) {}
    wire::FrameAddress address;
    bool bound = false;  // its offer was taken
    bool reachable = true;
    std::optional<Error> error;
    PeerWatch watch;
    std::deque<OutgoingFrame> out;
  };

  Status handle(std::size_t link, wire::Frame& frame, TimePoint now);
  void bind(Link& link, const wire::Frame& frame, TimePoint now);
  Status check_offer(const wire::Frame& frame);
  void send_accept(Link& link);
  void commit_if_complete();
  std::uint64_t window() const {
    return std::max<std::uint64_t>(1, options_.credit / offer_.sources());
  }
  void refuse_link(Link& link, const Error& error);
  void fail(const Error& error, const Link* told_by = nullptr, bool cancelled = false);

  const ModelIdentity identity_;
  const ReceiverOptions options_;
  State state_ = State::kWaiting;
  std::optional<Error> error_;
  std::deque<Link> links_;

  SharedOffer offer_;
  bool offer_due_ = false;
  HandoffTerms terms_;
  IncomingCache incoming_;
  IncomingModelData model_data_;
  bool commit_due_ = false;
  TimePoint progress_;  // when an end, a block or a first token came last
  KvCommit commit_;
  std::uint64_t dropped_ = 0;
};

inline std::size_t HandoffReceiver::add_link(TimePoint now) {
  links_.emplace_back(options_.timeouts, now);
  return links_.size() - 1;
}

inline void HandoffReceiver::on_frame(std::size_t index, wire::Frame frame, TimePoint now) {
  Link& link = links_[index];
  if (is_over() && !link.bound && !link.error) {
    link.address = frame.header.address;
    refuse_link(
        link, error_ ? *error_ : Error(ErrorCode::kProtocol, "the hand-off of this offer is over"));
  }
  if (is_over(index)) return;
  link.watch.heard(now);
  if (state_ == State::kCommitting && frame.header.type != wire::MessageType::kPing) {
    ++dropped_;  // nothing can stop the commit any more
    return;
  }
  if (!link.bound && frame.header.type == wire::MessageType::kOffer) {
    bind(link, frame, now);
    return;
  }
  const Status handled = handle(index, frame, now);
  if (!handled.ok()) on_malformed(index, handled.error());
}

// An offer that is not fit ends its link alone, so that a stray connection harms nobody; when it is
// the first one, there is no hand-off either.
inline void HandoffReceiver::bind(Link& link, const wire::Frame& frame, TimePoint now) {
  link.address = frame.header.address;
  const bool first = state_ == State::kWaiting;
  const Status fit = check_offer(frame);
  if (!fit.ok()) {
    if (first) {
      link.bound = true;  // so that it is told
      fail(fit.error());
    } else {
      refuse_link(link, fit.error());
    }
    return;
  }
  link.bound = true;
  progress_ = now;
  if (first) {
    state_ = State::kDeciding;
    offer_due_ = true;
  } else if (state_ == State::kReceiving) {
    send_accept(link);
  }
}

inline Status HandoffReceiver::check_offer(const wire::Frame& frame) {
  const wire::FrameAddress& address = frame.header.address;
  if (address.handoff == 0) return Error(ErrorCode::kProtocol, "OFFER without a hand-off id");
  KVFERRY_TRY(state_ == State::kWaiting ? offer_.take_first(frame, identity_)
                                        : offer_.check_same(frame));
  KVFERRY_TRY(offer_.check_source(address.source));
  for (const Link& other : links_) {
    if (other.bound && other.address.source == address.source) {
      return Error(ErrorCode::kProtocol,
                   "source " + std::to_string(address.source) + " is connected already");
    }
  }
  return {};
}

inline Status HandoffReceiver::handle(std::size_t index, wire::Frame& frame, TimePoint now) {
  Link& link = links_[index];
  const wire::FrameAddress& address = frame.header.address;
  // An OFFER is never late, so that a second one is not taken for a frame of an earlier hand-off.
  if (address.handoff != 0 && frame.header.type != wire::MessageType::kOffer &&
      (!link.bound || address.handoff != link.address.handoff || address.epoch != offer_.epoch() ||
       address.source != link.address.source)) {
    ++dropped_;
    return {};
  }
  if (PeerWatch::concerns(frame.header)) {
    KVFERRY_TRY(link.watch.on_frame(frame, now, link.out));
    if (!link.bound) {
      link.error = link.watch.ended();
    } else if (link.watch.ended()) {
      fail(*link.watch.ended(), &link);
    }
    return {};
  }
  const wire::MessageType type = frame.header.type;
  if (type != wire::MessageType::kFirstToken && type != wire::MessageType::kBlock &&
      type != wire::MessageType::kEnd && type != wire::MessageType::kModelData) {
    return Error(ErrorCode::kProtocol, std::string(wire::name_of(type)) +
                                           " is not a message to the receiver of a hand-off");
  }
  const bool ended = incoming_.has_ended(address.source);
  if (state_ != State::kReceiving || ended) {
    return Error(ErrorCode::kProtocol,
                 std::string(wire::name_of(type)) + (ended ? " after END" : " before ACCEPT"));
  }
  progress_ = now;
  if (type == wire::MessageType::kFirstToken) return incoming_.on_first_token(frame.payload);
  if (type == wire::MessageType::kModelData)
    return model_data_.on_data(address.source, frame.payload);
  KVFERRY_TRY(model_data_.on_other(address.source, wire::name_of(type)));
  if (type == wire::MessageType::kBlock) {
    KVFERRY_TRY(incoming_.on_block(index, address.source, frame));
    return incoming_.check_waiting();
  }
  KVFERRY_TRY(incoming_.on_end(address.source, frame.payload));
  commit_if_complete();
  return {};
}

inline void HandoffReceiver::accept(const HandoffTerms& terms, TimePoint now,
                                    const ModelDataAnswers& answers) {
  if (state_ != State::kDeciding) return;  // it failed meanwhile
  terms_ = terms;
  incoming_.start(offer(), first_sent(offer(), terms.held_prefix), window(),
                  answers.predictor != wire::ModelDataAnswer::kNone);
  model_data_.start(offer(), answers);
  state_ = State::kReceiving;
  progress_ = now;
  for (Link& link : links_) {
    if (link.bound) send_accept(link);
  }
}

inline void HandoffReceiver::send_accept(Link& link) {
  wire::Accept accept;
  accept.held_prefix = terms_.held_prefix;
  accept.generation = terms_.generation;
  accept.base_length = terms_.base_length;
  accept.profiles = decodable_profiles();
  const ModelDataAnswers answers = model_data_.ask(link.address.source);
  accept.codebook = answers.codebook;
  accept.predictor = answers.predictor;
  accept.credit = window();
  link.out.push_back(outgoing(wire::MessageType::kAccept, link.address, accept));
}

inline void HandoffReceiver::refuse(const Error& reason) {
  if (state_ == State::kDeciding) fail(reason);
}

inline void HandoffReceiver::commit_if_complete() {
  if (state_ != State::kReceiving || !incoming_.is_complete() || model_data_.pending()) return;
  state_ = State::kCommitting;
  commit_due_ = true;
}

inline bool HandoffReceiver::take_offer() {
  return std::exchange(offer_due_, false);
}

inline std::optional<wire::FirstToken> HandoffReceiver::take_first_token() {
  return incoming_.take_first_token();
}

inline std::optional<HandoffReceiver::BlockEvent> HandoffReceiver::take_block() {
  if (model_data_.pending()) return std::nullopt;
  return incoming_.take_block();
}

inline bool HandoffReceiver::take_commit() {
  return std::exchange(commit_due_, false);
}

inline void HandoffReceiver::first_token_taken() {
  incoming_.first_token_taken();
  commit_if_complete();
}

inline void HandoffReceiver::first_token_refused(const Error& error) {
  if (!is_over()) fail(error);
}

inline void HandoffReceiver::model_data_taken(wire::ModelDataKind kind) {
  model_data_.taken(kind);
  commit_if_complete();
}

inline void HandoffReceiver::model_data_refused(const Error& error) {
  if (!is_over()) fail(error);
}

inline void HandoffReceiver::block_written(const BlockEvent& block) {
  incoming_.block_written(block, links_[block.link].address.source);
  const Status waiting = incoming_.check_waiting();
  if (!waiting.ok() && !is_over()) fail(waiting.error());
  commit_if_complete();
}

inline void HandoffReceiver::block_failed(const Error& error) {
  incoming_.block_failed();
  if (!is_over()) fail(error);
}

inline void HandoffReceiver::committed(const KvCommit& commit) {
  assert(state_ == State::kCommitting);
  commit_ = commit;
  state_ = State::kCommitted;
  const wire::Committed message{commit.generation, commit.length, incoming_.digest()};
  for (Link& link : links_) {
    if (!link.bound || !link.reachable) continue;
    link.out.push_back(outgoing(wire::MessageType::kCommitted, link.address, message));
  }
}

inline void HandoffReceiver::commit_failed(const Error& error) {
  assert(state_ == State::kCommitting);
  fail(error);
}

inline std::optional<OutgoingFrame> HandoffReceiver::take_frame(std::size_t index, TimePoint now) {
  Link& link = links_[index];
  std::optional<OutgoingFrame> frame;
  if (!link.out.empty()) {
    frame = std::move(link.out.front());
    link.out.pop_front();
  } else if (state_ == State::kReceiving && link.bound) {
    const auto credit = incoming_.take_credit(link.address.source);
    if (credit) frame = outgoing(wire::MessageType::kCredit, link.address, *credit);
  }
  if (frame) link.watch.sent(now);
  return frame;
}

inline void HandoffReceiver::on_tick(TimePoint now) {
  if (is_over()) return;
  for (Link& link : links_) {
    if (link.error || !link.reachable) continue;
    if (link.watch.is_silent(now) && awaits_frames()) {
      const Error silent = link.watch.silence_error();
      if (!link.bound) {
        refuse_link(link, silent);
        continue;
      }
      fail(silent);
      return;
    }
    if (link.watch.wants_ping(now)) {
      link.out.push_back(link.watch.make_ping(now));
      link.watch.sent(now);
    }
  }
  if (state_ == State::kReceiving && awaits_frames() &&
      now - progress_ >= options_.timeouts.stall) {
    fail(Error(ErrorCode::kTimeout, "no block, and no end, came in " +
                                        std::to_string(options_.timeouts.stall.count()) + " ms"));
  }
}

inline void HandoffReceiver::on_broken(std::size_t index, const Error& error) {
  Link& link = links_[index];
  link.reachable = false;
  if (is_over(index)) return;
  if (!link.bound) {
    link.error = error;
  } else if (state_ != State::kCommitting) {
    fail(Error(error.code, "the sender is gone before its END was confirmed: " + error.message),
         &link);
  }
}

inline void HandoffReceiver::on_malformed(std::size_t index, const Error& error) {
  Link& link = links_[index];
  if (is_over(index) || state_ == State::kCommitting) return;
  if (link.bound) {
    fail(error);
  } else {
    refuse_link(link, error);
  }
}

inline void HandoffReceiver::cancel(const Error& reason) {
  if (!is_over() && state_ != State::kCommitting) fail(reason, nullptr, true);
}

inline void HandoffReceiver::refuse_link(Link& link, const Error& error) {
  link.error = error;
  link.out.push_back(outgoing_error(link.address, error));
}

// Tells every source except the one that ended the hand-off itself.
inline void HandoffReceiver::fail(const Error& error, const Link* told_by, bool cancelled) {
  state_ = State::kFailed;
  error_ = error;
  offer_due_ = false;
  incoming_.clear();
  for (Link& link : links_) {
    link.out.clear();
    if (!link.bound || !link.reachable || &link == told_by || link.error) continue;
    link.out.push_back(cancelled ? outgoing_cancel(link.address, error)
                                 : outgoing_error(link.address, error));
  }
}

}  // namespace kvferry
