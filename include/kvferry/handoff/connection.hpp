// Connection: frames over a Channel, from the HELLO of both ends on.
#pragma once

#include <array>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <mutex>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "kvferry/core/version.hpp"
#include "kvferry/transport/channel.hpp"
#include "kvferry/wire/frame.hpp"
#include "kvferry/wire/serialize.hpp"

namespace kvferry {

// Any thread may send (whole frames, one after the other) and close; one thread at a time receives.
// One hand-off at a time goes over a connection, any number one after the other.
class Connection {
 public:
  // `channel` must live longer. `max_payload`: the largest frame payload that this end takes.
  explicit Connection(Channel& channel, std::uint32_t max_payload = wire::kMaxPayload)
      : channel_(channel), max_payload_(max_payload), decoder_(max_payload) {}
  Connection(const Connection&) = delete;
  Connection& operator=(const Connection&) = delete;

  // Exchanges HELLO; the first thing that both ends do. kUnsupported when the versions do not
  // overlap or the peer requires a feature that this end does not have, named in the message; the
  // peer is told.
  Status greet(wire::Role role, Deadline deadline, const Cancelled& cancelled = {});
  // After greet().
  const wire::Hello& peer_hello() const { return peer_hello_; }
  std::string peer() const { return channel_.peer(); }

  // Sends one message. The payload must fit what the peer takes.
  template <typename Message>
  Status send(wire::MessageType type, const Message& message, Deadline deadline,
              const wire::FrameAddress& address = {}) {
    std::vector<std::uint8_t> payload;
    KVFERRY_TRY(wire::serialize(message, payload));
    return send_frame(wire::make_header(type, address, payload), payload, Bytes(), deadline);
  }
  // Sends a frame whose payload is `head` followed by `tail`, which `header` was made for.
  Status send_frame(const wire::FrameHeader& header, Bytes head, Bytes tail, Deadline deadline);

  // The next frame that an application acts on. PING is answered and PONG dropped; so are late
  // frames of a hand-off that is over. An OFFER is never late: under an id that was used before it
  // is refused, which only the peer is told. The peer's ERROR and GOODBYE for the connection come
  // as an error: its own, or kClosed. After kTimeout the connection is as before.
  Result<wire::Frame> receive(Deadline deadline, const Cancelled& cancelled = {});
  // The next frame, whatever it is.
  Result<wire::Frame> receive_any(Deadline deadline);
  // Gives back the frame that was received last: it is received again.
  void unreceive(wire::Frame frame) { returned_ = std::move(frame); }

  // Tells the peer why the connection, or the hand-off of `address`, ends. Best effort within the
  // deadline.
  void send_error(const Error& error, Deadline deadline, const wire::FrameAddress& address = {});

  // Marks a hand-off as over; its frames that are still under way will be dropped. Hand-off ids
  // grow over the life of a connection, in both directions together.
  void retire(std::uint64_t handoff) {
    if (handoff > retired_handoff_) retired_handoff_ = handoff;
  }
  // An id that is greater than all that were used on this connection.
  std::uint64_t next_handoff() const { return retired_handoff_ + 1; }

  void close() noexcept { channel_.close(); }

  std::uint64_t bytes_sent() const { return bytes_sent_; }
  std::uint64_t bytes_received() const { return bytes_received_; }

 private:
  static constexpr std::size_t kReadBytes = 64 * 1024;

  // receive_any(), cancellable.
  Result<wire::Frame> wait_for_frame(Deadline deadline, const Cancelled& cancelled);

  Channel& channel_;
  const std::uint32_t max_payload_;
  wire::Hello peer_hello_;
  std::mutex send_mutex_;
  wire::FrameDecoder decoder_;
  std::vector<std::uint8_t> read_buffer_ = std::vector<std::uint8_t>(kReadBytes);
  Bytes unread_;  // of read_buffer_
  std::optional<wire::Frame> returned_;
  std::atomic<std::uint64_t> retired_handoff_{0};
  std::atomic<std::uint64_t> bytes_sent_{0};
  std::atomic<std::uint64_t> bytes_received_{0};
};

// This process's monotonic clock in nanoseconds, as HELLO, PING and PONG carry it.
inline std::uint64_t clock_ns() {
  return static_cast<std::uint64_t>(std::chrono::duration_cast<std::chrono::nanoseconds>(
                                        Deadline::Clock::now().time_since_epoch())
                                        .count());
}

inline Status Connection::send_frame(const wire::FrameHeader& header, Bytes head, Bytes tail,
                                     Deadline deadline) {
  if (header.payload_bytes > peer_hello_.max_payload) {
    return Error(ErrorCode::kResourceExhausted,
                 std::string(wire::name_of(header.type)) + " with a payload of " +
                     std::to_string(header.payload_bytes) + " bytes; " + peer() +
                     " takes at most " + std::to_string(peer_hello_.max_payload));
  }
  const auto encoded = wire::encode_header(header);
  const std::array<Bytes, 3> parts = {{Bytes(encoded), head, tail}};
  const std::lock_guard<std::mutex> lock(send_mutex_);
  KVFERRY_TRY(channel_.send(Span<const Bytes>(parts), deadline));
  bytes_sent_ += encoded.size() + header.payload_bytes;
  return {};
}

inline Result<wire::Frame> Connection::receive_any(Deadline deadline) {
  if (returned_) return *std::exchange(returned_, std::nullopt);
  for (;;) {
    while (!unread_.empty() && !decoder_.has_frame()) {
      KVFERRY_ASSIGN(const std::size_t used, decoder_.feed(unread_));
      unread_ = unread_.subspan(used);
    }
    if (decoder_.has_frame()) return decoder_.take();
    const auto received = channel_.receive(MutableBytes(read_buffer_), deadline);
    if (!received.ok()) {
      if (received.error().code == ErrorCode::kClosed) KVFERRY_TRY(decoder_.finish());
      return received.error();
    }
    bytes_received_ += *received;
    unread_ = Bytes(read_buffer_).first(*received);
  }
}

inline Result<wire::Frame> Connection::wait_for_frame(Deadline deadline,
                                                      const Cancelled& cancelled) {
  if (!cancelled) return receive_any(deadline);
  for (;;) {
    if (cancelled()) return Error(ErrorCode::kCancelled, "cancelled");
    auto frame = receive_any(deadline.at_most(kCancelPoll));
    if (frame.ok() || frame.error().code != ErrorCode::kTimeout || deadline.expired()) return frame;
  }
}

inline Result<wire::Frame> Connection::receive(Deadline deadline, const Cancelled& cancelled) {
  for (;;) {
    KVFERRY_ASSIGN(wire::Frame frame, wait_for_frame(deadline, cancelled));
    const bool of_connection = frame.header.address.handoff == 0;
    if (!of_connection && frame.header.address.handoff <= retired_handoff_) {
      if (frame.header.type == wire::MessageType::kOffer) {
        send_error(Error(ErrorCode::kProtocol,
                         "OFFER under hand-off id " + std::to_string(frame.header.address.handoff) +
                             "; ids up to " + std::to_string(retired_handoff_) +
                             " were used on this connection: offer under a greater one"),
                   deadline, frame.header.address);
      }
      continue;
    }
    switch (frame.header.type) {
      case wire::MessageType::kPing: {
        KVFERRY_ASSIGN(const wire::Ping ping, wire::parse_ping(frame.payload));
        wire::Pong pong;
        pong.nonce = ping.nonce;
        pong.ping_clock_ns = ping.clock_ns;
        pong.clock_ns = clock_ns();
        KVFERRY_TRY(send(wire::MessageType::kPong, pong, deadline));
        continue;
      }
      case wire::MessageType::kPong:
        continue;
      case wire::MessageType::kGoodbye:
        return Error(ErrorCode::kClosed, peer() + " said goodbye");
      case wire::MessageType::kError:
        if (of_connection) {
          KVFERRY_ASSIGN(wire::ErrorMessage error, wire::parse_error(frame.payload));
          return Error(error.code, peer() + " reports: " + error.text);
        }
        return frame;
      default:
        return frame;
    }
  }
}

inline void Connection::send_error(const Error& error, Deadline deadline,
                                   const wire::FrameAddress& address) {
  const Status ignored =
      send(wire::MessageType::kError, wire::to_message(error), deadline, address);
  static_cast<void>(ignored);
}

inline Status Connection::greet(wire::Role role, Deadline deadline, const Cancelled& cancelled) {
  wire::Hello own;
  own.role = role;
  own.max_payload = max_payload_;
  own.clock_ns = clock_ns();
  own.agent = "kvferry " KVFERRY_VERSION;
  KVFERRY_TRY(send(wire::MessageType::kHello, own, deadline));

  const auto fail = [&](ErrorCode code, const std::string& what) {
    Error error(code, what);
    send_error(error, deadline);
    return error;
  };
  const auto frame = receive(deadline, cancelled);
  if (!frame.ok()) {
    if (frame.error().code == ErrorCode::kMalformed || frame.error().code == ErrorCode::kChecksum ||
        frame.error().code == ErrorCode::kUnsupported) {
      send_error(frame.error(), deadline);
    }
    return frame.error();
  }
  if (frame->header.type != wire::MessageType::kHello) {
    return fail(ErrorCode::kProtocol, std::string(wire::name_of(frame->header.type)) + " from " +
                                          peer() + " where HELLO has to come first");
  }
  auto hello = wire::parse_hello(frame->payload);
  if (!hello.ok()) return fail(hello.error().code, hello.error().message);
  if (hello->min_version > wire::kVersion || hello->max_version < wire::kVersion) {
    return fail(ErrorCode::kUnsupported,
                peer() + " speaks wire versions " + std::to_string(hello->min_version) + " to " +
                    std::to_string(hello->max_version) + ", this end speaks version " +
                    std::to_string(wire::kVersion));
  }
  for (int bit = 0; bit < 64; ++bit) {
    if (hello->required_features >> bit & 1u) {
      return fail(ErrorCode::kUnsupported, peer() + " requires feature " + std::to_string(bit) +
                                               ", which this end does not have");
    }
  }
  peer_hello_ = *std::move(hello);
  return {};
}

}  // namespace kvferry
