#include "kvferry/node/decode_node.hpp"

#include <algorithm>
#include <mutex>
#include <optional>
#include <utility>

#include "kvferry/handoff/session.hpp"
#include "kvferry/node/loaded_model.hpp"
#include "kvferry/node/ticket_book.hpp"

#include "cancel_watch.hpp"
#include "decode_loop.hpp"
#include "generation.hpp"
#include "node_server.hpp"

namespace kvferry {
namespace {

// How long a connection may stay idle after a hand-off.
constexpr std::chrono::minutes kIdle{10};

// Blocks of the pool and sequences, promised before they are used, so that what was accepted can be
// finished. Thread-safe.
class Admission {
 public:
  Admission(std::uint32_t blocks, std::uint32_t sequences)
      : free_blocks_(blocks),
        free_sequences_(sequences),
        all_blocks_(blocks),
        all_sequences_(sequences) {}

  std::uint32_t all_sequences() const { return all_sequences_; }

  Status take(std::uint32_t blocks) {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (free_sequences_ == 0) {
      return Error(ErrorCode::kResourceExhausted,
                   "the decode node has as many sequences as it takes; try again later");
    }
    if (blocks > free_blocks_) {
      const auto tokens = [](std::uint64_t count) { return std::to_string(count * kBlockTokens); };
      return Error(ErrorCode::kResourceExhausted,
                   "the decode node has cache for " + tokens(free_blocks_) + " more tokens (of " +
                       tokens(all_blocks_) + "); prompt and answer need " + tokens(blocks) +
                       ": ask for fewer tokens, or try again later");
    }
    --free_sequences_;
    free_blocks_ -= blocks;
    return {};
  }
  void give_back(std::uint32_t blocks) {
    const std::lock_guard<std::mutex> lock(mutex_);
    ++free_sequences_;
    free_blocks_ += blocks;
  }

 private:
  std::mutex mutex_;
  std::uint32_t free_blocks_;
  std::uint32_t free_sequences_;
  const std::uint32_t all_blocks_;
  const std::uint32_t all_sequences_;
};

// Makes a generation of an offer and keeps it until its cache is here.
class Intake : public HandoffHandler {
 public:
  Intake(const LoadedModel& model, Admission& admission, TicketBook& tickets)
      : model_(model), admission_(admission), tickets_(tickets) {}

  Result<HandoffAcceptance> on_offer(const wire::Offer& offer) override {
    if (!offer.decode) {
      return Error(ErrorCode::kUnsupported,
                   "the offer has no decode order; this node only takes caches to decode from");
    }
    if (offer.base_length != 0 || offer.base_generation != 0 || offer.replace_begin != 0) {
      return Error(ErrorCode::kNotFound,
                   "the offer extends a sequence that this node does not hold; offer it whole");
    }
    const std::uint32_t context = model_.config().context_length;
    const auto prompt = static_cast<std::uint32_t>(offer.tokens.size());
    if (prompt >= context) {
      return Error(ErrorCode::kInvalidArgument,
                   "the offer has " + std::to_string(prompt) + " tokens; the context of " +
                       std::to_string(context) + " leaves no room for an answer");
    }
    const std::uint32_t answer =
        std::min(offer.decode->max_tokens != 0 ? offer.decode->max_tokens : open_answer(prompt),
                 context - prompt);
    const std::uint32_t blocks = KvPool::blocks_for(prompt + answer);
    KVFERRY_TRY(admission_.take(blocks));
    auto generation = Generation::create(
        model_, offer, answer,
        [this_admission = &admission_, blocks] { this_admission->give_back(blocks); });
    if (!generation.ok()) {
      admission_.give_back(blocks);
      return generation.error();
    }
    generation_ = *std::move(generation);
    KVFERRY_TRY(tickets_.add(offer.decode->ticket, generation_->stream()));
    HandoffAcceptance acceptance;
    acceptance.sink = &generation_->sink();
    if (on_accept) on_accept(*generation_->stream());
    return acceptance;
  }
  Status on_first_token(const wire::FirstToken& token) override {
    generation_->take_first(token);
    return {};
  }

  // Called once the offer is accepted, with the stream of its client.
  std::function<void(TokenStream&)> on_accept;
  // Null before an offer was accepted.
  std::unique_ptr<Generation>& generation() { return generation_; }

 private:
  // The answer to a client that set it no limit: prompt and answer together get a sequence's share
  // of the cache, so that such clients leave room for each other.
  std::uint32_t open_answer(std::uint32_t prompt) const {
    constexpr std::uint32_t kLeast = 256;
    const std::uint32_t share =
        model_.pool->capacity_blocks() / admission_.all_sequences() * kBlockTokens;
    return share > prompt + kLeast ? share - prompt : kLeast;
  }

  const LoadedModel& model_;
  Admission& admission_;
  TicketBook& tickets_;
  std::unique_ptr<Generation> generation_;
};

}  // namespace

class DecodeNode::Impl {
 public:
  Impl(const DecodeNodeOptions& options, LoadedModel model, NodeLog log)
      : options_(options),
        log_(std::move(log)),
        model_(std::move(model)),
        admission_(model_.pool->capacity_blocks(), options.max_sequences),
        tickets_(options.server.max_connections, options.ticket_lifetime),
        // A client that never attaches must not keep its sequence decoding.
        loop_(model_, [this] { tickets_.expire(); }) {
    ModelDataStoreOptions store;
    store.folder = options.model_data_folder;
    store.log = log_;
    store_ = std::make_shared<ModelDataStore>(model_.identity, std::move(store));
  }

  void listen(std::unique_ptr<Listener> listener) {
    server_ = serve_connections(
        std::move(listener), options_.server, wire::Role::kDecode,
        [this](Channel& channel) { serve(channel); }, log_);
  }
  std::string address() const { return server_->address(); }

 private:
  Deadline soon() const { return Deadline::after(options_.server.timeout); }

  void serve(Channel& channel) {
    Connection connection(channel);
    const Status greeted = connection.greet(wire::Role::kDecode, soon());
    if (!greeted.ok()) return log_(connection.peer() + ": " + greeted.error().message);
    std::shared_ptr<PredictorFetch> fetch;  // what may come behind the last hand-off
    // A connection that never says what it wants is not kept.
    for (Deadline deadline = soon();;
         deadline = fetch != nullptr ? soon() : Deadline::after(kIdle)) {
      const auto frame = connection.receive(deadline);
      if (!frame.ok() && frame.error().code == ErrorCode::kTimeout && fetch != nullptr) {
        fetch = nullptr;  // another connection may be asked for it
        continue;
      }
      if (!frame.ok()) {
        if (frame.error().code != ErrorCode::kClosed) {
          connection.send_error(frame.error(), soon());
          log_(connection.peer() + ": " + frame.error().message);
        }
        return;
      }
      switch (frame->header.type) {
        case wire::MessageType::kOffer: {
          fetch = nullptr;
          const bool usable = take_handoff(connection, *frame, fetch);
          store_->save();
          if (!usable) return;
          break;
        }
        case wire::MessageType::kModelData:
          if (!take_predictor(connection, *frame, fetch)) return;
          break;
        case wire::MessageType::kAttach:
          return stream_to_client(connection, *frame);
        default: {
          const Error error(ErrorCode::kProtocol,
                            std::string(wire::name_of(frame->header.type)) +
                                " where the decode node takes OFFER or ATTACH");
          connection.send_error(error, soon());
          return log_(connection.peer() + ": " + error.message);
        }
      }
    }
  }

  // A piece of the predictor that the last hand-off on this connection asked for. False when the
  // connection is of no more use.
  bool take_predictor(Connection& connection, const wire::Frame& frame,
                      std::shared_ptr<PredictorFetch>& fetch) {
    const auto refuse = [&](const Error& error) {
      connection.send_error(error, soon());
      log_(connection.peer() + ": " + error.message);
      return false;
    };
    if (fetch == nullptr) {
      return refuse(Error(ErrorCode::kProtocol, "MODEL_DATA that was not asked for"));
    }
    const auto last = fetch->on_data(frame.payload);
    if (!last.ok()) return refuse(last.error());
    if (!*last) return true;
    log_(connection.peer() + ": its predictor came, " + std::to_string(fetch->total_bytes()) +
         " bytes; hand-offs are predicted from now on");
    fetch = nullptr;
    store_->save();
    return true;
  }

  // False when the connection is of no more use.
  bool take_handoff(Connection& connection, const wire::Frame& offer,
                    std::shared_ptr<PredictorFetch>& fetch) {
    Intake intake(model_, admission_, tickets_);
    ReceiveOptions receive;
    receive.codebook = model_.codebook;
    receive.predictor = model_.predictor;
    receive.store = store_;
    receive.max_predictor_bytes = options_.max_predictor_bytes;
    ReceiveSession session(model_.identity, intake, receive);
    intake.on_accept = [&session](TokenStream& stream) {
      stream.on_cancel([&session] {
        session.cancel(Error(ErrorCode::kCancelled, "the client wants no more tokens"));
      });
    };
    const auto receipt = session.serve(connection, offer);
    std::unique_ptr<Generation> generation = std::move(intake.generation());
    if (generation) generation->stream()->on_cancel(nullptr);
    if (!receipt.ok()) {
      const Error error(receipt.error().code, "hand-off failed: " + receipt.error().message);
      log_(error.message);
      if (generation) generation->fail(error);
      return receipt.error().code != ErrorCode::kClosed && receipt.error().code != ErrorCode::kIo;
    }
    fetch = receipt->predictor_fetch;
    generation->take_cache(receipt->report);
    if (!generation->finished()) loop_.add(std::move(generation));
    return true;
  }

  void stream_to_client(Connection& connection, const wire::Frame& frame) {
    const auto attach = wire::parse_attach(frame.payload);
    if (!attach.ok()) return connection.send_error(attach.error(), soon());
    const auto redeemed = tickets_.redeem(attach->ticket);
    if (!redeemed.ok()) return connection.send_error(redeemed.error(), soon());
    TokenStream& stream = **redeemed;
    const CancelWatch watch(connection, [&stream](const Error&) { stream.cancel(); });
    for (;;) {
      const auto item = stream.next(Deadline::after(std::chrono::seconds(1)));
      if (!item) continue;
      if (const auto* error = std::get_if<Error>(&*item)) {
        return connection.send_error(*error, soon());
      }
      const auto* done = std::get_if<wire::Done>(&*item);
      const Status sent = done != nullptr ? connection.send(wire::MessageType::kDone, *done, soon())
                                          : connection.send(wire::MessageType::kToken,
                                                            std::get<wire::Token>(*item), soon());
      if (!sent.ok()) stream.cancel();
      if (!sent.ok() || done != nullptr) return;
    }
  }

  const DecodeNodeOptions options_;
  const NodeLog log_;
  const LoadedModel model_;
  Admission admission_;
  TicketBook tickets_;
  std::shared_ptr<ModelDataStore> store_;
  DecodeLoop loop_;
  std::unique_ptr<ConnectionServer> server_;  // last: its threads use all of the above
};

DecodeNode::DecodeNode(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
DecodeNode::~DecodeNode() = default;
std::string DecodeNode::address() const {
  return impl_->address();
}

Result<std::unique_ptr<DecodeNode>> DecodeNode::start(const DecodeNodeOptions& options,
                                                      NodeLog log) {
  KVFERRY_ASSIGN(std::unique_ptr<Listener> listener, listen(options.server));
  KVFERRY_ASSIGN(LoadedModel model, LoadedModel::load(options.model));
  auto impl = std::make_unique<Impl>(options, std::move(model), std::move(log));
  impl->listen(std::move(listener));
  return std::unique_ptr<DecodeNode>(new DecodeNode(std::move(impl)));
}

}  // namespace kvferry
