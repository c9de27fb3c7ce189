// InProcessHandoff: a cache through the whole hand-off (encode, frames, a channel, decode, commit)
// inside one process, to see what a profile does to it.
#pragma once

#include <memory>
#include <thread>
#include <vector>

#include "kvferry/cache/sequence_adapters.hpp"
#include "kvferry/core/result.hpp"
#include "kvferry/handoff/session.hpp"
#include "kvferry/node/loaded_model.hpp"

namespace kvferry {

class InProcessHandoff {
 public:
  // From `from`, whose rows of `prompt` are being computed, into an empty sequence of a pool of the
  // same size and type. `model` outlives it.
  static Result<std::unique_ptr<InProcessHandoff>> start(const LoadedModel& model,
                                                         std::shared_ptr<const KvSequence> from,
                                                         const std::vector<TokenId>& prompt,
                                                         Profile profile);
  // Cancels when it is not finished.
  ~InProcessHandoff();
  InProcessHandoff(const InProcessHandoff&) = delete;
  InProcessHandoff& operator=(const InProcessHandoff&) = delete;

  // As SendSession::publish.
  Status publish(std::uint32_t layer, std::uint32_t begin, std::uint32_t end,
                 Span<const std::uint8_t> token_classes = {});

  struct Outcome {
    std::shared_ptr<KvSequence> sequence;  // what the receiver has
    HandoffReport sender;
    HandoffReport receiver;
  };
  // Waits for the commit. Everything has to be published. Once.
  Result<Outcome> finish();

 private:
  // Takes the offer into sequence_.
  class Receiver : public HandoffHandler {
   public:
    explicit Receiver(std::shared_ptr<KvSequence> sequence) : sink_(std::move(sequence)) {}
    Result<HandoffAcceptance> on_offer(const wire::Offer&) override {
      HandoffAcceptance acceptance;
      acceptance.sink = &sink_;
      return acceptance;
    }
    Status on_first_token(const wire::FirstToken&) override { return {}; }

   private:
    SequenceSink sink_;
  };

  InProcessHandoff(const LoadedModel& model, std::shared_ptr<const KvSequence> from,
                   std::shared_ptr<KvSequence> to);
  // The receiving side, in its thread.
  Result<HandoffReceipt> receive();

  const LoadedModel& model_;
  const SequenceSource source_;
  const std::shared_ptr<KvSequence> sequence_;
  ChannelPair channels_;
  Connection sender_;
  Connection receiver_;
  Status received_;                // the receiving thread's, until it is joined
  HandoffReport receiver_report_;  // likewise
  std::unique_ptr<SendSession> session_;
  std::thread receiving_;  // last: it uses what stands above
};

}  // namespace kvferry
