#include "kvferry/node/in_process_handoff.hpp"

#include <chrono>
#include <utility>

#include "kvferry/node/offer.hpp"
#include "kvferry/transport/loopback.hpp"

namespace kvferry {
namespace {
// For what the other thread of this process does at once.
constexpr std::chrono::seconds kPatience{60};

// Nobody is lost inside a process: no PING is sent, so that what travels depends on the cache
// alone.
HandoffTimeouts without_pings() {
  HandoffTimeouts timeouts;
  timeouts.ping = std::chrono::hours(24);
  timeouts.silence = std::chrono::hours(48);
  return timeouts;
}
}  // namespace

Result<std::unique_ptr<InProcessHandoff>> InProcessHandoff::start(
    const LoadedModel& model, std::shared_ptr<const KvSequence> from,
    const std::vector<TokenId>& prompt, Profile profile) {
  KVFERRY_ASSIGN(std::shared_ptr<KvPool> pool,
                 KvPool::create(model.pool->geometry(), model.pool->capacity_blocks(),
                                model.engine->cache_memory()));
  std::unique_ptr<InProcessHandoff> handoff(
      new InProcessHandoff(model, std::move(from), KvSequence::create(std::move(pool))));
  SendOptions options;
  options.timeouts = without_pings();
  options.codebook = model.codebook;
  options.predictor = model.predictor;
  KVFERRY_TRY(handoff->sender_.greet(wire::Role::kPrefill, Deadline::after(kPatience)));
  KVFERRY_ASSIGN(handoff->session_,
                 SendSession::start(handoff->sender_, handoff->source_,
                                    make_offer(model, prompt, profile), options));
  return handoff;
}

InProcessHandoff::InProcessHandoff(const LoadedModel& model, std::shared_ptr<const KvSequence> from,
                                   std::shared_ptr<KvSequence> to)
    : model_(model),
      source_(std::move(from)),
      sequence_(std::move(to)),
      channels_(make_loopback()),
      sender_(*channels_.first),
      receiver_(*channels_.second),
      receiving_([this] {
        const auto receipt = receive();
        if (receipt.ok()) {
          receiver_report_ = receipt->report;
        } else {
          received_ = receipt.error();
        }
      }) {}

InProcessHandoff::~InProcessHandoff() {
  session_.reset();
  sender_.close();
  if (receiving_.joinable()) receiving_.join();
}

Status InProcessHandoff::publish(std::uint32_t layer, std::uint32_t begin, std::uint32_t end,
                                 Span<const std::uint8_t> token_classes) {
  return session_->publish(layer, begin, end, token_classes);
}

Result<InProcessHandoff::Outcome> InProcessHandoff::finish() {
  KVFERRY_ASSIGN(const HandoffReceipt receipt, session_->finish());
  receiving_.join();
  KVFERRY_TRY(received_);
  return Outcome{sequence_, receipt.report, receiver_report_};
}

Result<HandoffReceipt> InProcessHandoff::receive() {
  KVFERRY_TRY(receiver_.greet(wire::Role::kDecode, Deadline::after(kPatience)));
  KVFERRY_ASSIGN(const wire::Frame offer, receiver_.receive(Deadline::after(kPatience)));
  Receiver receiver(sequence_);
  ReceiveOptions options;
  options.timeouts = without_pings();
  options.codebook = model_.codebook;
  options.predictor = model_.predictor;
  return receive_handoff(receiver_, offer, model_.identity, receiver, options);
}

}  // namespace kvferry
