// PeerWatch: whether the peer of a hand-off is alive, and whether it goes on with it.
#pragma once

#include <cstdint>
#include <deque>
#include <optional>
#include <string>
#include <utility>

#include "kvferry/core/deadline.hpp"
#include "kvferry/handoff/outgoing_frame.hpp"
#include "kvferry/handoff/report.hpp"

namespace kvferry {

using TimePoint = Deadline::Clock::time_point;

inline std::uint64_t nanoseconds(TimePoint t) {
  return static_cast<std::uint64_t>(
      std::chrono::duration_cast<std::chrono::nanoseconds>(t.time_since_epoch()).count());
}

// Each end sends a PING when it had nothing else to send for a while, so that a living peer is
// never silent for long, however slow the other direction is.
class PeerWatch {
 public:
  // With so many frames waiting to be sent, a PING goes unanswered: a peer that asks and does not
  // listen shall not make this end hold its answers.
  static constexpr std::size_t kMaxWaiting = 32;

  // `peer` is what errors call it: "sender", "receiver".
  PeerWatch(const HandoffTimeouts& timeouts, std::string peer, TimePoint now)
      : timeouts_(timeouts), peer_(std::move(peer)), heard_(now), sent_(now) {}

  void heard(TimePoint now) { heard_ = now; }
  void sent(TimePoint now) { sent_ = now; }

  bool is_silent(TimePoint now) const { return now - heard_ >= timeouts_.silence; }

  bool wants_ping(TimePoint now) const { return now - sent_ >= timeouts_.ping; }
  OutgoingFrame make_ping(TimePoint now) {
    return outgoing(wire::MessageType::kPing, {}, wire::Ping{++nonce_, nanoseconds(now)});
  }
  Error silence_error() const {
    return Error(ErrorCode::kTimeout, "nothing came from the " + peer_ + " for " +
                                          std::to_string(timeouts_.silence.count()) +
                                          " ms: it is taken for dead");
  }

  // Whether a frame is about the peer and not about the cache: on_frame() takes it.
  static bool concerns(const wire::FrameHeader& header) {
    return header.address.handoff == 0 || header.type == wire::MessageType::kError ||
           header.type == wire::MessageType::kCancel;
  }
  // Answers a PING through `out`, notes how the peer ends the hand-off or the connection.
  // kMalformed, and kProtocol for what has no place during a hand-off.
  Status on_frame(const wire::Frame& frame, TimePoint now, std::deque<OutgoingFrame>& out);
  // How the peer ended the hand-off, once it has.
  const std::optional<Error>& ended() const { return ended_; }

 private:
  Status on_handoff_frame(const wire::Frame& frame);

  HandoffTimeouts timeouts_;
  std::string peer_;
  TimePoint heard_;
  TimePoint sent_;
  std::uint64_t nonce_ = 0;
  std::optional<Error> ended_;
};

inline Status PeerWatch::on_frame(const wire::Frame& frame, TimePoint now,
                                  std::deque<OutgoingFrame>& out) {
  if (frame.header.address.handoff != 0) return on_handoff_frame(frame);
  switch (frame.header.type) {
    case wire::MessageType::kPing: {
      KVFERRY_ASSIGN(const wire::Ping ping, wire::parse_ping(frame.payload));
      if (out.size() < kMaxWaiting) {
        out.push_back(outgoing(wire::MessageType::kPong, {},
                               wire::Pong{ping.nonce, ping.clock_ns, nanoseconds(now)}));
      }
      return {};
    }
    case wire::MessageType::kPong:
      return {};
    case wire::MessageType::kError: {
      KVFERRY_ASSIGN(const wire::ErrorMessage error, wire::parse_error(frame.payload));
      ended_ = Error(error.code, "the " + peer_ + " ended the connection: " + error.text);
      return {};
    }
    case wire::MessageType::kGoodbye:
      ended_ =
          Error(ErrorCode::kClosed, "the " + peer_ + " said goodbye in the middle of a hand-off");
      return {};
    default:
      return Error(ErrorCode::kProtocol, std::string(wire::name_of(frame.header.type)) +
                                             " during a hand-off; one connection serves one at a "
                                             "time");
  }
}

inline Status PeerWatch::on_handoff_frame(const wire::Frame& frame) {
  if (frame.header.type == wire::MessageType::kCancel) {
    KVFERRY_ASSIGN(const wire::Cancel cancel, wire::parse_cancel(frame.payload));
    ended_ = Error(cancel.code, "the " + peer_ + " cancelled the hand-off: " + cancel.text);
  } else {
    KVFERRY_ASSIGN(const wire::ErrorMessage error, wire::parse_error(frame.payload));
    ended_ = Error(error.code, "the " + peer_ + " ended the hand-off: " + error.text);
  }
  return {};
}

}  // namespace kvferry
