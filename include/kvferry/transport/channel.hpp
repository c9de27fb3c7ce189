// Channel, Listener, Connector: the byte streams that hand-offs travel over. Implement Channel to
// bring another transport, and prove it with testing/channel_conformance.hpp.
#pragma once

#include <cstddef>
#include <memory>
#include <string>

#include "kvferry/core/deadline.hpp"
#include "kvferry/core/result.hpp"
#include "kvferry/core/span.hpp"

namespace kvferry {

// An ordered, reliable, full-duplex byte stream between two ends. One thread may send while another
// one receives, and any thread may close; apart from that, calls are the caller's to serialise.
//
// A channel buffers a bounded number of bytes: a sender whose peer does not receive blocks until
// its deadline.
class Channel {
 public:
  virtual ~Channel() = default;

  // Sends all bytes of all buffers, in order. Returns when they are handed to the transport, which
  // says nothing of the peer having received them. No bytes at all is a success without effect.
  // Errors: kTimeout, kClosed (by either end), kIo. After an error an unknown part of the bytes has
  // been sent, so that every later send fails with kClosed; receiving goes on.
  virtual Status send(Span<const Bytes> buffers, Deadline deadline) = 0;

  // Waits for at least one byte and returns how many lie at the start of `buffer`: from 1 to
  // buffer.size(). An empty buffer gets 0 at once. Errors: kTimeout, after which the channel is as
  // before; kClosed when the peer has closed and everything it sent was received, or when this end
  // has closed; kIo. The end of the stream is no proof that the peer had sent all it wanted.
  virtual Result<std::size_t> receive(MutableBytes buffer, Deadline deadline) = 0;

  // Ends the stream in both directions, without waiting. Calls that are blocked, and later ones,
  // return kClosed; the peer receives what was sent before, then kClosed. Closing again is
  // harmless, and the destructor closes.
  virtual void close() noexcept = 0;

  // Who is at the other end, for messages and logs: an URL where the transport has one.
  virtual std::string peer() const = 0;
};

// The two ends of one channel.
struct ChannelPair {
  std::unique_ptr<Channel> first;
  std::unique_ptr<Channel> second;
};

// Waits for others to connect. accept() may be called by one thread at a time, close() by any.
class Listener {
 public:
  virtual ~Listener() = default;

  // The next connection. Errors: kTimeout; kClosed after close(); kResourceExhausted (out of
  // descriptors or memory) and kIo, after which the listener goes on: wait a little before the
  // next call.
  virtual Result<std::unique_ptr<Channel>> accept(Deadline deadline) = 0;

  // Stops listening and wakes accept(). Connections that were accepted stay open.
  virtual void close() noexcept = 0;

  // The URL at which it listens, with the port that it really has.
  virtual std::string address() const = 0;
};

// Opens channels to one address.
class Connector {
 public:
  virtual ~Connector() = default;

  // Safe to call from several threads. Errors: kTimeout, kIo (refused, unreachable), kNotFound (no
  // such host).
  virtual Result<std::unique_ptr<Channel>> connect(Deadline deadline) = 0;
};

// Sends one buffer; the rules of Channel::send.
inline Status send_all(Channel& channel, Bytes bytes, Deadline deadline) {
  return channel.send(Span<const Bytes>(&bytes, 1), deadline);
}

// Fills the whole buffer. kIncomplete when the stream ends after the first byte, kClosed before.
// After kTimeout the bytes received so far are lost.
inline Status receive_all(Channel& channel, MutableBytes buffer, Deadline deadline) {
  std::size_t filled = 0;
  while (filled < buffer.size()) {
    const auto received = channel.receive(buffer.subspan(filled), deadline);
    if (!received.ok()) {
      if (received.error().code == ErrorCode::kClosed && filled > 0) {
        return Error(ErrorCode::kIncomplete, "the stream from " + channel.peer() + " ended after " +
                                                 std::to_string(filled) + " of " +
                                                 std::to_string(buffer.size()) + " bytes");
      }
      return received.error();
    }
    filled += *received;
  }
  return {};
}

}  // namespace kvferry
