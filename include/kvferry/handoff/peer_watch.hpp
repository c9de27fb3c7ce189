// PeerWatch: whether the peer of a hand-off is alive.
#pragma once

#include <cstdint>

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

  PeerWatch(const HandoffTimeouts& timeouts, TimePoint now)
      : timeouts_(timeouts), heard_(now), sent_(now) {}

  void heard(TimePoint now) { heard_ = now; }
  void sent(TimePoint now) { sent_ = now; }

  bool is_silent(TimePoint now) const { return now - heard_ >= timeouts_.silence; }

  bool wants_ping(TimePoint now) const { return now - sent_ >= timeouts_.ping; }
  OutgoingFrame make_ping(TimePoint now) {
    return outgoing(wire::MessageType::kPing, {}, wire::Ping{++nonce_, nanoseconds(now)});
  }
  // kMalformed when `payload` is no PING.
  static Result<OutgoingFrame> answer(Bytes payload, TimePoint now) {
    KVFERRY_ASSIGN(const wire::Ping ping, wire::parse_ping(payload));
    return outgoing(wire::MessageType::kPong, {},
                    wire::Pong{ping.nonce, ping.clock_ns, nanoseconds(now)});
  }

  Error silence_error(const std::string& whom) const {
    return Error(ErrorCode::kTimeout, "nothing came from the " + whom + " for " +
                                          std::to_string(timeouts_.silence.count()) +
                                          " ms: it is taken for dead");
  }

 private:
  HandoffTimeouts timeouts_;
  TimePoint heard_;
  TimePoint sent_;
  std::uint64_t nonce_ = 0;
};

}  // namespace kvferry
