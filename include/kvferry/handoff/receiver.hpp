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
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "kvferry/cache/source_sink.hpp"
#include "kvferry/handoff/block_credit.hpp"
#include "kvferry/handoff/outgoing_frame.hpp"
#include "kvferry/handoff/peer_watch.hpp"
#include "kvferry/handoff/report.hpp"
#include "kvferry/handoff/row_ledger.hpp"
#include "kvferry/handoff/terms.hpp"
#include "kvferry/model/identity.hpp"
#include "kvferry/wire/digest.hpp"
#include "kvferry/wire/serialize.hpp"

namespace kvferry {

struct ReceiverOptions {
  std::uint64_t credit = 4u << 20;  // payload bytes of blocks under way, or waiting to be written
  HandoffTimeouts timeouts;
  std::uint64_t codebook = 0;  // id of the one that this end has; 0 = none
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

  // A block to decode and write.
  struct BlockEvent {
    std::size_t link = 0;
    KvRange range;
    std::vector<std::uint8_t> payload;  // of the BLOCK frame
    Bytes coded() const { return Bytes(payload).subspan(wire::kBlockHeadBytes); }
  };

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

  const wire::Offer& offer() const { return *offer_; }
  // `terms` for which plan_import() succeeds.
  void accept(const HandoffTerms& terms, TimePoint now);
  void refuse(const Error& reason);
  void block_written(const BlockEvent& block);
  void block_failed(const Error& error);
  void committed(const KvCommit& commit);
  void commit_failed(const Error& error);

  // What is to be done ---------------------------------------------------------------------------

  // True once, when the application has to decide on offer().
  bool take_offer();
  // Once, as soon as it is there.
  std::optional<wire::FirstToken> take_first_token();
  // The next block; each is answered by block_written() or block_failed(), in any order.
  std::optional<BlockEvent> take_block();
  // True once, when everything was written and the application has to commit.
  bool take_commit();
  std::optional<OutgoingFrame> take_frame(std::size_t link, TimePoint now);

  State state() const { return state_; }
  bool is_over() const { return state_ == State::kCommitted || state_ == State::kFailed; }
  // False once every source has sent its END: what is left to do happens here.
  bool awaits_frames() const { return !is_over() && !all_ended(); }
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
  std::size_t blocks_out() const { return blocks_out_; }
  std::uint64_t blocks_received() const;
  std::uint64_t payload_bytes_received() const;
  // Frames that belonged to another hand-off or epoch, and blocks that came twice.
  std::uint64_t frames_dropped() const { return dropped_; }

 private:
  struct Link {
    Link(const HandoffTimeouts& timeouts, TimePoint now) : watch(timeouts, now) {}
    wire::FrameAddress address;
    bool bound = false;  // its offer was taken
    bool ended = false;
    bool reachable = true;
    std::optional<Error> error;
    PeerWatch watch;
    std::deque<OutgoingFrame> out;
    wire::HandoffDigest digest;
    std::uint64_t payload_bytes = 0;  // of its blocks in the digest
    BlockCredit credit;
  };

  Status handle(std::size_t link, wire::Frame& frame, TimePoint now);
  Status handle_connection(Link& link, const wire::Frame& frame, TimePoint now);
  Status handle_first_token(Bytes payload);
  Status handle_block(std::size_t link, wire::Frame& frame);
  Status handle_end(Link& link, Bytes payload);
  void bind(Link& link, const wire::Frame& frame, TimePoint now);
  Status check_offer(const wire::Frame& frame);
  Status check_place(const KvRange& range, std::uint16_t source) const;
  void send_accept(Link& link);
  void commit_if_complete();
  bool all_ended() const;
  std::uint64_t window() const {
    return std::max<std::uint64_t>(1, options_.credit / sources_.size());
  }
  void refuse_link(Link& link, const Error& error);
  void fail(const Error& error, const Link* told_by = nullptr, bool cancelled = false);

  const ModelIdentity identity_;
  const ReceiverOptions options_;
  State state_ = State::kWaiting;
  std::optional<Error> error_;
  std::deque<Link> links_;

  std::optional<wire::Offer> offer_;
  bool offer_due_ = false;
  std::uint64_t offer_hash_ = 0;
  std::uint32_t epoch_ = 0;
  std::set<std::uint16_t> sources_;  // that the offer declares
  HandoffTerms terms_;
  std::uint32_t begin_ = 0;  // tokens below are not received
  std::optional<RowLedger> rows_;
  bool first_token_came_ = false;
  std::optional<wire::FirstToken> first_token_;
  std::deque<BlockEvent> blocks_;
  bool commit_due_ = false;
  TimePoint progress_;
  std::size_t blocks_out_ = 0;
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
  if (state_ == State::kWaiting) {
    KVFERRY_ASSIGN(wire::Offer offer, wire::parse_offer(frame.payload));
    std::set<std::uint16_t> sources;
    for (const wire::CoveragePart& part : offer.coverage) sources.insert(part.source);
    offer_ = std::move(offer);
    offer_hash_ = frame.header.payload_hash;
    epoch_ = address.epoch;
    sources_ = std::move(sources);
    KVFERRY_TRY(compare(identity_, offer_->identity));
    KVFERRY_TRY(check_profile(offer_->profile));
  } else {
    if (address.epoch != epoch_) {
      return Error(ErrorCode::kProtocol, "OFFER of attempt " + std::to_string(address.epoch) +
                                             ", the hand-off is at attempt " +
                                             std::to_string(epoch_));
    }
    if (frame.header.payload_hash != offer_hash_) {
      return Error(ErrorCode::kMismatch, "the sources of one hand-off sent different offers");
    }
  }
  if (sources_.count(address.source) == 0) {
    return Error(ErrorCode::kProtocol, "OFFER from source " + std::to_string(address.source) +
                                           ", for which its coverage has no part");
  }
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
  if (address.handoff == 0) return handle_connection(link, frame, now);
  if (!link.bound || address.handoff != link.address.handoff || address.epoch != epoch_ ||
      address.source != link.address.source) {
    ++dropped_;
    return {};
  }
  const wire::MessageType type = frame.header.type;
  switch (type) {
    case wire::MessageType::kError: {
      KVFERRY_ASSIGN(const wire::ErrorMessage error, wire::parse_error(frame.payload));
      fail(Error(error.code, "the sender ended the hand-off: " + error.text), &link);
      return {};
    }
    case wire::MessageType::kCancel: {
      KVFERRY_ASSIGN(const wire::Cancel cancel, wire::parse_cancel(frame.payload));
      fail(Error(cancel.code, "the sender cancelled the hand-off: " + cancel.text), &link);
      return {};
    }
    case wire::MessageType::kFirstToken:
    case wire::MessageType::kBlock:
    case wire::MessageType::kEnd:
      break;
    default:
      return Error(ErrorCode::kProtocol, std::string(wire::name_of(type)) +
                                             " is not a message to the receiver of a hand-off");
  }
  if (state_ != State::kReceiving || link.ended) {
    return Error(ErrorCode::kProtocol,
                 std::string(wire::name_of(type)) + (link.ended ? " after END" : " before ACCEPT"));
  }
  progress_ = now;
  if (type == wire::MessageType::kFirstToken) return handle_first_token(frame.payload);
  if (type == wire::MessageType::kBlock) return handle_block(index, frame);
  return handle_end(link, frame.payload);
}

inline Status HandoffReceiver::handle_connection(Link& link, const wire::Frame& frame,
                                                 TimePoint now) {
  switch (frame.header.type) {
    case wire::MessageType::kPing: {
      KVFERRY_ASSIGN(OutgoingFrame pong, PeerWatch::answer(frame.payload, now));
      if (link.out.size() < PeerWatch::kMaxWaiting) link.out.push_back(std::move(pong));
      return {};
    }
    case wire::MessageType::kPong:
      return {};
    case wire::MessageType::kError: {
      KVFERRY_ASSIGN(const wire::ErrorMessage error, wire::parse_error(frame.payload));
      fail(Error(error.code, "the sender ended the connection: " + error.text), &link);
      return {};
    }
    case wire::MessageType::kGoodbye:
      fail(Error(ErrorCode::kClosed, "the sender said goodbye in the middle of a hand-off"), &link);
      return {};
    default:
      return Error(ErrorCode::kProtocol, std::string(wire::name_of(frame.header.type)) +
                                             " during a hand-off; one connection serves one at a "
                                             "time");
  }
}

inline void HandoffReceiver::accept(const HandoffTerms& terms, TimePoint now) {
  if (state_ != State::kDeciding) return;  // it failed meanwhile
  terms_ = terms;
  begin_ = first_sent(*offer_, terms.held_prefix);
  rows_.emplace(offer_->layers, begin_, static_cast<std::uint32_t>(offer_->tokens.size()));
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
  accept.has_codebook = offer_->codebook != 0 && offer_->codebook == options_.codebook;
  accept.credit = window();
  link.credit.open(accept.credit);
  link.out.push_back(outgoing(wire::MessageType::kAccept, link.address, accept));
}

inline void HandoffReceiver::refuse(const Error& reason) {
  if (state_ == State::kDeciding) fail(reason);
}

inline Status HandoffReceiver::handle_first_token(Bytes payload) {
  if (!offer_->decode || first_token_came_) {
    return Error(ErrorCode::kProtocol, first_token_came_
                                           ? "a second FIRST_TOKEN of one hand-off"
                                           : "FIRST_TOKEN, but the offer has no decode order");
  }
  KVFERRY_ASSIGN(first_token_, wire::parse_first_token(payload));
  first_token_came_ = true;
  return {};
}

// kProtocol unless `source` declared the rows and they were not excluded by the terms.
inline Status HandoffReceiver::check_place(const KvRange& range, std::uint16_t source) const {
  if (range.begin < begin_) {
    return Error(ErrorCode::kProtocol, "BLOCK of " + to_string(range) + ": tokens below " +
                                           std::to_string(begin_) + " were not to be sent");
  }
  std::uint32_t covered = 0;  // parts do not overlap, so that their shares add up
  for (const wire::CoveragePart& part : offer_->coverage) {
    if (part.source != source || range.layer < part.first_layer || range.layer >= part.end_layer)
      continue;
    const std::uint32_t from = std::max(range.begin, part.begin);
    const std::uint32_t to = std::min(range.end, part.end);
    if (from < to) covered += to - from;
  }
  if (covered == range.tokens()) return {};
  return Error(ErrorCode::kProtocol, "BLOCK of " + to_string(range) + " from source " +
                                         std::to_string(source) +
                                         ", which did not declare these rows");
}

inline Status HandoffReceiver::handle_block(std::size_t index, wire::Frame& frame) {
  Link& link = links_[index];
  KVFERRY_ASSIGN(const wire::Block block, wire::parse_block(frame.payload));
  const KvRange range{block.layer, block.plane, block.begin, block.begin + block.tokens};
  KVFERRY_TRY(check_place(range, link.address.source));
  KVFERRY_TRY(check_profile(block.profile));
  const std::uint64_t bytes = frame.payload.size();
  if (!link.credit.receive(bytes)) {
    return Error(ErrorCode::kProtocol,
                 "BLOCK of " + to_string(range) +
                     " is beyond the credit: " + std::to_string(link.credit.received() + bytes) +
                     " bytes of blocks, granted were " + std::to_string(link.credit.granted()));
  }
  switch (rows_->claim(range, frame.header.payload_hash)) {
    case RowLedger::Claim::kConflict:
      return Error(ErrorCode::kProtocol,
                   "BLOCK of " + to_string(range) + " has rows that came before in another block");
    case RowLedger::Claim::kDuplicate:
      ++dropped_;
      link.credit.free(bytes);
      return {};
    case RowLedger::Claim::kAdded:
      break;
  }
  link.digest.add(link.address.source, block, frame.header.payload_hash);
  link.payload_bytes += bytes;
  blocks_.push_back(BlockEvent{index, range, std::move(frame.payload)});
  return {};
}

inline Status HandoffReceiver::handle_end(Link& link, Bytes payload) {
  KVFERRY_ASSIGN(const wire::End end, wire::parse_end(payload));
  for (const wire::CoveragePart& part : offer_->coverage) {
    if (part.source != link.address.source) continue;
    const auto missing = rows_->first_missing(part.first_layer, part.end_layer,
                                              std::max(part.begin, begin_), part.end);
    if (missing) {
      return Error(ErrorCode::kIncomplete, "END from source " +
                                               std::to_string(link.address.source) + ", but " +
                                               to_string(*missing) + " did not come");
    }
  }
  if (end.blocks != link.digest.blocks() || end.payload_bytes != link.payload_bytes) {
    return Error(ErrorCode::kIncomplete, "END counts " + std::to_string(end.blocks) +
                                             " blocks of " + std::to_string(end.payload_bytes) +
                                             " bytes, " + std::to_string(link.digest.blocks()) +
                                             " of " + std::to_string(link.payload_bytes) + " came");
  }
  if (end.digest != link.digest.value()) {
    return Error(ErrorCode::kChecksum, "the blocks that came do not match the digest of END");
  }
  link.ended = true;
  if (all_ended() && offer_->decode && !first_token_came_) {
    return Error(ErrorCode::kIncomplete, "END without the FIRST_TOKEN that a decode order needs");
  }
  commit_if_complete();
  return {};
}

inline bool HandoffReceiver::all_ended() const {
  const auto ended = std::count_if(links_.begin(), links_.end(),
                                   [](const Link& link) { return link.bound && link.ended; });
  return static_cast<std::size_t>(ended) == sources_.size();
}

inline void HandoffReceiver::commit_if_complete() {
  if (state_ != State::kReceiving || !all_ended()) return;
  if (blocks_out_ > 0 || !blocks_.empty()) return;
  state_ = State::kCommitting;
  commit_due_ = true;
}

inline bool HandoffReceiver::take_offer() {
  return std::exchange(offer_due_, false);
}

inline std::optional<wire::FirstToken> HandoffReceiver::take_first_token() {
  return std::exchange(first_token_, std::nullopt);
}

inline std::optional<HandoffReceiver::BlockEvent> HandoffReceiver::take_block() {
  if (blocks_.empty()) return std::nullopt;
  BlockEvent block = std::move(blocks_.front());
  blocks_.pop_front();
  ++blocks_out_;
  return block;
}

inline bool HandoffReceiver::take_commit() {
  return std::exchange(commit_due_, false);
}

inline void HandoffReceiver::block_written(const BlockEvent& block) {
  --blocks_out_;
  if (is_over()) return;
  links_[block.link].credit.free(block.payload.size());
  commit_if_complete();
}

inline void HandoffReceiver::block_failed(const Error& error) {
  --blocks_out_;
  if (!is_over()) fail(error);
}

inline void HandoffReceiver::committed(const KvCommit& commit) {
  assert(state_ == State::kCommitting);
  commit_ = commit;
  state_ = State::kCommitted;
  wire::HandoffDigest digest;
  for (const Link& link : links_) digest.add(link.digest);
  for (Link& link : links_) {
    if (!link.bound || !link.reachable) continue;
    link.out.push_back(outgoing(wire::MessageType::kCommitted, link.address,
                                wire::Committed{commit.generation, commit.length, digest.value()}));
  }
}

inline void HandoffReceiver::commit_failed(const Error& error) {
  assert(state_ == State::kCommitting);
  fail(error);
}

inline std::optional<OutgoingFrame> HandoffReceiver::take_frame(std::size_t index, TimePoint now) {
  Link& link = links_[index];
  OutgoingFrame frame;
  if (!link.out.empty()) {
    frame = std::move(link.out.front());
    link.out.pop_front();
  } else if (state_ == State::kReceiving && !link.ended && link.credit.is_due()) {
    frame = outgoing(wire::MessageType::kCredit, link.address, wire::Credit{link.credit.grant()});
  } else {
    return std::nullopt;
  }
  link.watch.sent(now);
  return frame;
}

inline void HandoffReceiver::on_tick(TimePoint now) {
  if (is_over()) return;
  for (Link& link : links_) {
    if (link.error || !link.reachable) continue;
    if (link.watch.is_silent(now) && awaits_frames()) {
      const Error silent = link.watch.silence_error("sender");
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
  first_token_.reset();
  blocks_.clear();
  for (Link& link : links_) {
    link.out.clear();
    if (!link.bound || !link.reachable || &link == told_by || link.error) continue;
    link.out.push_back(cancelled ? outgoing_cancel(link.address, error)
                                 : outgoing_error(link.address, error));
  }
}

inline std::uint64_t HandoffReceiver::blocks_received() const {
  std::uint64_t blocks = 0;
  for (const Link& link : links_) blocks += link.digest.blocks();
  return blocks;
}

inline std::uint64_t HandoffReceiver::payload_bytes_received() const {
  std::uint64_t bytes = 0;
  for (const Link& link : links_) bytes += link.payload_bytes;
  return bytes;
}

}  // namespace kvferry
