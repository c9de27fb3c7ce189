#include "kvferry/node/prefill_node.hpp"

#include <algorithm>
#include <atomic>
#include <mutex>
#include <optional>
#include <utility>
#include <vector>

#include "kvferry/cache/sequence_adapters.hpp"
#include "kvferry/core/stopwatch.hpp"
#include "kvferry/engine/sampler.hpp"
#include "kvferry/handoff/session.hpp"
#include "kvferry/node/first_token.hpp"
#include "kvferry/node/loaded_model.hpp"
#include "kvferry/node/offer.hpp"
#include "kvferry/node/publish_layer.hpp"
#include "kvferry/node/ticket_book.hpp"
#include "kvferry/transport/tcp.hpp"

#include "cancel_watch.hpp"
#include "compute_queue.hpp"
#include "node_server.hpp"

namespace kvferry {

class PrefillNode::Impl {
 public:
  Impl(const PrefillNodeOptions& options, LoadedModel model, NodeLog log)
      : options_(options), log_(std::move(log)), model_(std::move(model)) {}

  void listen(std::unique_ptr<Listener> listener) {
    server_ = serve_connections(
        std::move(listener), options_.server, wire::Role::kPrefill,
        [this](Channel& channel) { serve(channel); }, log_);
  }
  ~Impl() { stopping_ = true; }
  std::string address() const { return server_->address(); }

 private:
  // What ends a request early, and who has to know. The client's watch sets it from its thread.
  class Cancellation {
   public:
    void cancel(const Error& reason) {
      const std::lock_guard<std::mutex> lock(mutex_);
      if (!reason_.ok()) return;
      reason_ = reason;
      if (session_ != nullptr) session_->cancel(reason);
    }
    // The session that cancel() ends; nullptr before it is destroyed.
    void set_session(SendSession* session) {
      const std::lock_guard<std::mutex> lock(mutex_);
      session_ = session;
      if (session_ != nullptr && !reason_.ok()) session_->cancel(reason_.error());
    }
    Status check() const {
      const std::lock_guard<std::mutex> lock(mutex_);
      return reason_;
    }

   private:
    mutable std::mutex mutex_;
    Status reason_;
    SendSession* session_ = nullptr;
  };

  Deadline soon() const { return Deadline::after(options_.server.timeout); }

  // One connection carries one request.
  void serve(Channel& channel) {
    Connection client(channel);
    Cancellation cancellation;
    std::optional<CancelWatch> watch;  // closes the connection when it goes
    const Status status = serve_request(client, cancellation, watch);
    if (status.ok()) return;
    client.send_error(status.error(), soon());
    log_(client.peer() + ": " + status.error().message);
  }

  Status serve_request(Connection& client, Cancellation& cancellation,
                       std::optional<CancelWatch>& watch) {
    KVFERRY_TRY(client.greet(wire::Role::kPrefill, soon()));
    KVFERRY_ASSIGN(const wire::Frame frame, client.receive(soon()));
    if (frame.header.type != wire::MessageType::kGenerate) {
      return Error(ErrorCode::kProtocol, std::string(wire::name_of(frame.header.type)) +
                                             " where the prefill node takes GENERATE");
    }
    KVFERRY_ASSIGN(const wire::Generate request, wire::parse_generate(frame.payload));
    watch.emplace(client, [&cancellation](const Error& reason) { cancellation.cancel(reason); });
    KVFERRY_ASSIGN(const std::vector<TokenId> prompt, model_.prompt_tokens(request));
    KVFERRY_ASSIGN(Sampler sampler, Sampler::create(request.sampler));
    return hand_over(client, request, prompt, sampler, cancellation);
  }

  Status hand_over(Connection& client, const wire::Generate& request,
                   const std::vector<TokenId>& prompt, Sampler& sampler,
                   Cancellation& cancellation) {
    const auto arrived = Deadline::Clock::now();
    const std::shared_ptr<KvSequence> sequence = KvSequence::create(model_.pool);
    sequence->set_origin(model_.origin());
    const SequenceSource source(sequence);

    // Nothing is offered before its turn: a prompt that waits takes no place on the decode node.
    const Cancelled cancelled = [&cancellation] { return !cancellation.check().ok(); };
    auto turn = queue_.enter(cancelled);
    KVFERRY_TRY(cancellation.check());
    const auto started = Deadline::Clock::now();
    auto channel = connect_tcp(options_.decode, soon(), cancelled);
    KVFERRY_TRY(cancellation.check());
    if (!channel.ok()) return decode_error(channel.error());
    Connection decode(**channel);
    const Status greeted = decode.greet(wire::Role::kPrefill, soon(), cancelled);
    KVFERRY_TRY(cancellation.check());
    if (!greeted.ok()) return decode_error(greeted.error());

    wire::Offer offer = make_offer(model_, prompt, options_.profile);
    offer.sequence = random_id();
    offer.decode.emplace();
    offer.decode->ticket = random_id();
    offer.decode->sampler = request.sampler;
    offer.decode->max_tokens = request.max_tokens;
    offer.decode->ignore_eos = request.ignore_eos;
    offer.decode->stop = request.stop;
    wire::Ticket ticket;
    ticket.decode_address =
        options_.decode_for_clients.empty() ? options_.decode : options_.decode_for_clients;
    ticket.ticket = offer.decode->ticket;
    ticket.prompt_tokens = static_cast<std::uint32_t>(prompt.size());

    SendOptions send;
    send.codebook = model_.codebook;
    send.predictor = model_.predictor;
    send.predictor_ahead = options_.predictor_ahead;
    auto session = SendSession::start(decode, source, std::move(offer), send);
    if (!session.ok()) return decode_error(session.error());
    cancellation.set_session(session->get());
    wire::Done done;
    Status handed = run_session(client, prompt, sampler, ticket, *sequence, **session, cancellation,
                                *turn, done);
    done.report.insert(done.report.begin(), {"wait_seconds", seconds_between(arrived, started)});
    cancellation.set_session(nullptr);
    KVFERRY_TRY(cancellation.check());
    if (!handed.ok()) {
      (*session)->cancel(handed.error());
      return handed;
    }
    Status told = client.send(wire::MessageType::kDone, done, soon());
    send_predictor(**session);
    return told;
  }

  // What the decode node lacks for the next hand-offs; nobody waits for it. Hand-offs that end at
  // the same time do not send it twice.
  void send_predictor(SendSession& session) {
    const std::unique_lock<std::mutex> alone(sending_predictor_, std::try_to_lock);
    if (!alone.owns_lock()) return;
    const auto sent =
        session.send_predictor(options_.server.timeout, [this] { return stopping_.load(); });
    if (!sent.ok()) return log_("decode node: the predictor was not sent: " + sent.error().message);
    if (*sent != 0) log_("decode node: sent the predictor, " + std::to_string(*sent) + " bytes");
  }

  Status run_session(Connection& client, const std::vector<TokenId>& prompt, Sampler& sampler,
                     const wire::Ticket& ticket, KvSequence& sequence, SendSession& session,
                     Cancellation& cancellation, ComputeQueue::Turn& turn, wire::Done& done) {
    const auto accepted = session.accepted();
    if (!accepted.ok()) return decode_error(accepted.error());
    KVFERRY_TRY(client.send(wire::MessageType::kTicket, ticket, soon()));

    const Stopwatch prefilling;
    std::vector<float> logits(model_.config().vocab);
    PrefillRequest prefill;
    prefill.tokens = prompt;
    prefill.chunk_tokens = options_.chunk;
    prefill.logits = Span<float>(logits);
    prefill.on_layer = [&](const LayerReady& ready) -> Status {
      KVFERRY_TRY(cancellation.check());
      return publish_layer(session, ready);
    };
    std::vector<float> attention;
    if (options_.token_classes && is_quantised(options_.profile)) {
      attention.resize(std::size_t{model_.config().layers} * prompt.size());
      prefill.attention = attention;
    }
    KVFERRY_TRY(model_.engine->prefill(prefill, sequence));
    KVFERRY_ASSIGN(const wire::FirstToken first,
                   sample_first(sampler, Span<const float>(logits), prompt));
    KVFERRY_TRY(session.send_first_token(first));
    const double prefill_seconds = prefilling.seconds();
    turn.end();

    const auto receipt = session.finish();
    if (!receipt.ok()) return decode_error(receipt.error());
    const HandoffReport& report = receipt->report;
    done.reason = wire::FinishReason::kHandedOver;
    done.report = {
        {"prompt_tokens", static_cast<double>(prompt.size())},
        {"prefill_seconds", prefill_seconds},
        {"handoff_seconds", report.total_seconds},
        {"read_seconds", report.read_seconds},
        {"block_encode_seconds", report.encode_seconds},
        {"send_seconds", report.send_seconds},
        {"commit_seconds", report.commit_seconds},
        {"wire_bytes", static_cast<double>(report.wire_bytes)},
        {"payload_bytes", static_cast<double>(report.payload_bytes)},
        {"raw_bytes", static_cast<double>(report.raw_bytes)},
        {"ratio", report.ratio()},
        {"blocks", static_cast<double>(report.blocks)},
        {"model_data_bytes", static_cast<double>(report.model_data_bytes)},
    };
    if (is_quantised(options_.profile)) {
      done.report.emplace_back("codebook", report.used_codebook ? 1.0 : 0.0);
      done.report.emplace_back("predictor", report.used_predictor ? 1.0 : 0.0);
    }
    const bool is_refused =
        model_.predictor != nullptr && !report.used_predictor && !session.owes_predictor();
    if (is_refused && !told_of_refusal_.exchange(true)) {
      log_("decode node: takes no predictor of " +
           std::to_string(model_.predictor->bytes().size()) +
           " bytes, so that hand-offs are not predicted; see its --predict and --max-predictor");
    }
    return {};
  }

  static Error decode_error(const Error& error) {
    return Error(error.code, "decode node: " + error.message);
  }

  const PrefillNodeOptions options_;
  const NodeLog log_;
  const LoadedModel model_;
  ComputeQueue queue_;
  std::mutex sending_predictor_;
  std::atomic<bool> told_of_refusal_{false};
  std::atomic<bool> stopping_{false};
  std::unique_ptr<ConnectionServer> server_;  // last: its threads use all of the above
};

PrefillNode::PrefillNode(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
PrefillNode::~PrefillNode() = default;
std::string PrefillNode::address() const {
  return impl_->address();
}

Result<std::unique_ptr<PrefillNode>> PrefillNode::start(const PrefillNodeOptions& options,
                                                        NodeLog log) {
  // An unusable address is told at once.
  KVFERRY_TRY(tcp_connector(options.decode));
  if (!options.decode_for_clients.empty()) KVFERRY_TRY(tcp_connector(options.decode_for_clients));
  KVFERRY_ASSIGN(std::unique_ptr<Listener> listener, listen(options.server));
  KVFERRY_ASSIGN(LoadedModel model, LoadedModel::load(options.model));
  auto impl = std::make_unique<Impl>(options, std::move(model), std::move(log));
  impl->listen(std::move(listener));
  return std::unique_ptr<PrefillNode>(new PrefillNode(std::move(impl)));
}

}  // namespace kvferry
