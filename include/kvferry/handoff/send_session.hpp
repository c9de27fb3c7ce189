// SendSession: hands one cache over a connection while it is still being computed.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

#include "kvferry/cache/source_sink.hpp"
#include "kvferry/core/result.hpp"
#include "kvferry/handoff/connection.hpp"
#include "kvferry/handoff/report.hpp"
#include "kvferry/wire/messages.hpp"

namespace kvferry {

struct SendOptions {
  std::uint16_t source = 1;              // which of the offer's sources this end is
  std::uint32_t epoch = 1;               // attempt of this hand-off; grows when it is tried again
  bool sends_first_token = true;         // when the offer has a decode order
  std::uint32_t encode_threads = 1;      // at least 1
  std::size_t pending_bytes = 4u << 20;  // coded blocks that may wait to be sent
  HandoffTimeouts timeouts;
};

// Owns the connection from start() until it is destroyed. Everything here may be called from any
// thread. Nothing that the prefill calls waits for the network: publish() only notes what is ready,
// and worker threads read, encode and send it as the receiver's credit allows.
class SendSession {
 public:
  // Sends the offer. `connection` has greeted; it, and `source`, must live longer than the session.
  // The rows of `source` are of the type, and cover the layers, that the offer declares for this
  // source. Blocks are encoded with offer.profile.
  static Result<std::unique_ptr<SendSession>> start(Connection& connection, const KvSource& source,
                                                    wire::Offer offer,
                                                    const SendOptions& options = {});
  // Cancels when the hand-off is not finished, and waits for the threads.
  ~SendSession();
  SendSession(const SendSession&) = delete;
  SendSession& operator=(const SendSession&) = delete;

  // K and V of tokens [begin, end) of a layer are final and readable. What the receiver already
  // holds may be published or left out. kInvalidArgument outside of the coverage or twice; else the
  // error that ended the hand-off.
  Status publish(std::uint32_t layer, std::uint32_t begin, std::uint32_t end);

  // Goes out ahead of every block that waits. Once, and only when the offer has a decode order.
  Status send_first_token(const wire::FirstToken& token);

  // The receiver's answer to the offer, as soon as it is there: it says which prefix need not be
  // computed for its sake. Waits at most until the time-out of the offer.
  Result<wire::Accept> accepted();

  // Waits until the receiver has committed. Everything has to be published, and the first token
  // sent, before or meanwhile.
  Result<HandoffReceipt> finish();

  // Ends the hand-off; the receiver is told `reason` and keeps nothing.
  void cancel(const Error& reason);

  // So far.
  HandoffReport report() const;

 private:
  struct State;
  explicit SendSession(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace kvferry
