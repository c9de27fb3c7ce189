// receive_handoff and ReceiveSession: take a cache from one connection, or from several at once.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

#include "kvferry/cache/source_sink.hpp"
#include "kvferry/core/result.hpp"
#include "kvferry/handoff/connection.hpp"
#include "kvferry/handoff/report.hpp"
#include "kvferry/model/identity.hpp"
#include "kvferry/wire/messages.hpp"

namespace kvferry {

// Where an offered cache goes. Tokens [max(offer.replace_begin, held_prefix), end) are received.
struct HandoffAcceptance {
  KvSink* sink = nullptr;         // outlives the hand-off; begin() is called by the hand-off
  std::uint32_t held_prefix = 0;  // the sequence behind `sink` has tokens [0, held_prefix) already
  std::uint64_t generation = 0;   // of that sequence
  std::uint32_t base_length = 0;  // tokens that it has
};

// The application's side of a hand-off that comes in. Called from the threads that serve the
// hand-off, one call at a time.
class HandoffHandler {
 public:
  virtual ~HandoffHandler() = default;
  // The offer's model is already known to match. An error refuses the offer and is told to the
  // sender.
  virtual Result<HandoffAcceptance> on_offer(const wire::Offer& offer) = 0;
  // Comes ahead of the cache, at most once.
  virtual void on_first_token(const wire::FirstToken& token) = 0;
};

struct ReceiveOptions {
  std::uint64_t credit = 4u << 20;   // payload bytes of blocks under way or waiting for the decoder
  std::uint32_t decode_threads = 1;  // at least 1
  HandoffTimeouts timeouts;
};

// One hand-off from one or several sources. `identity` is compared with the offer's.
class ReceiveSession {
 public:
  ReceiveSession(const ModelIdentity& identity, HandoffHandler& handler,
                 const ReceiveOptions& options = {});
  ~ReceiveSession();
  ReceiveSession(const ReceiveSession&) = delete;
  ReceiveSession& operator=(const ReceiveSession&) = delete;

  // Serves the connection of one source, from its OFFER on and until the hand-off is committed or
  // has failed; each source has a thread that calls this. All of them return the same outcome. The
  // sources were told of it; afterwards their connections can be used again, unless the error is
  // that of a broken connection.
  Result<HandoffReceipt> serve(Connection& connection, const wire::Frame& offer);

  // Ends the hand-off from any thread; the sources are told `reason`.
  void cancel(const Error& reason);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

// A hand-off from a single source.
inline Result<HandoffReceipt> receive_handoff(Connection& connection, const wire::Frame& offer,
                                              const ModelIdentity& identity,
                                              HandoffHandler& handler,
                                              const ReceiveOptions& options = {}) {
  ReceiveSession session(identity, handler, options);
  return session.serve(connection, offer);
}

}  // namespace kvferry
