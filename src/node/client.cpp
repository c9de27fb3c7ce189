#include "kvferry/node/client.hpp"

#include <memory>
#include <optional>
#include <system_error>
#include <thread>
#include <utility>

#include "kvferry/core/stopwatch.hpp"
#include "kvferry/handoff/connection.hpp"
#include "kvferry/transport/tcp.hpp"

namespace kvferry {
namespace {

// How long the prefill node may take for its last word once the decode node is done.
constexpr std::chrono::seconds kGrace{1};
// How messages call the two nodes; the addresses are in what the connections say.
constexpr const char* kPrefill = "prefill node";
constexpr const char* kDecode = "decode node";

class Request {
 public:
  Request(const ClientOptions& options, const std::atomic<bool>& cancel)
      : options_(options),
        cancelled_([&cancel] { return cancel.load(); }),
        started_(Deadline::Clock::now()) {}

  Result<GenerationResult> run(const wire::Generate& request,
                               const std::function<void(const std::string&)>& on_text) {
    KVFERRY_ASSIGN(const std::unique_ptr<Channel> prefill_channel,
                   connect(options_.prefill, kPrefill));
    Connection prefill(*prefill_channel);
    KVFERRY_TRY(of(kPrefill, prefill.greet(wire::Role::kClient, patience(), cancelled_)));
    started_ = Deadline::Clock::now();
    KVFERRY_TRY(of(kPrefill, prefill.send(wire::MessageType::kGenerate, request, patience())));
    KVFERRY_ASSIGN(const wire::Frame frame, next(prefill, kPrefill));
    if (frame.header.type != wire::MessageType::kTicket) return unexpected(prefill, frame);
    KVFERRY_ASSIGN(const wire::Ticket ticket, wire::parse_ticket(frame.payload));
    result_.prompt_tokens = ticket.prompt_tokens;
    result_.decode_address = ticket.decode_address;

    Status status;
    {
      // The prefill node goes on telling how it fares while the tokens come from the decode node.
      KVFERRY_ASSIGN(const auto listener, PrefillListener::start(*this, prefill));
      status = stream(ticket, on_text);
      if (!status.ok() && status.error().code == ErrorCode::kCancelled) tell_cancelled(prefill);
    }
    prefill.close();
    if (!status.ok()) return explain(status.error());
    result_.total_seconds = seconds();
    return std::move(result_);
  }

 private:
  // Listens to the prefill node in a thread until it goes, however that happens; then the decode
  // node is done.
  class PrefillListener {
   public:
    static Result<std::unique_ptr<PrefillListener>> start(Request& request, Connection& prefill) {
      try {
        return std::unique_ptr<PrefillListener>(new PrefillListener(request, prefill));
      } catch (const std::system_error& failure) {
        return Error(ErrorCode::kResourceExhausted,
                     std::string("no thread to listen to the prefill node: ") + failure.what());
      }
    }
    ~PrefillListener() {
      request_.decode_done_ = true;
      thread_.join();
    }
    PrefillListener(const PrefillListener&) = delete;
    PrefillListener& operator=(const PrefillListener&) = delete;

   private:
    PrefillListener(Request& request, Connection& prefill)
        : request_(request),
          thread_([&request, &prefill] { request.listen_to_prefill(prefill); }) {}

    Request& request_;
    std::thread thread_;
  };

  Deadline patience() const { return Deadline::after(options_.timeout); }
  double seconds() const { return seconds_between(started_, Deadline::Clock::now()); }

  // An error with the node that it is about; cancelling is about none.
  static Error of(const char* who, const Error& error) {
    if (error.code == ErrorCode::kCancelled) return error;
    return Error(error.code, std::string(who) + ": " + error.message);
  }
  static Status of(const char* who, const Status& status) {
    return status.ok() ? status : Status(of(who, status.error()));
  }

  Result<std::unique_ptr<Channel>> connect(const std::string& address, const char* who) const {
    auto channel = connect_tcp(address, patience(), cancelled_);
    if (!channel.ok()) return of(who, channel.error());
    return channel;
  }

  static void tell_cancelled(Connection& connection) {
    wire::Cancel told;
    told.text = "the client cancelled";
    const Status ignored =
        connection.send(wire::MessageType::kCancel, told, Deadline::after(kCancelPoll));
    static_cast<void>(ignored);
  }

  // The next frame, or an error: the peer's, kCancelled, or a time-out.
  Result<wire::Frame> next(Connection& connection, const char* who) const {
    auto frame = connection.receive(patience(), cancelled_);
    if (frame.ok()) return frame;
    if (cancelled_()) tell_cancelled(connection);
    if (frame.error().code == ErrorCode::kTimeout) {
      return of(who, Error(ErrorCode::kTimeout,
                           connection.peer() + " sent nothing for " +
                               std::to_string(options_.timeout.count() / 1000) + " s"));
    }
    return of(who, frame.error());
  }

  static Error unexpected(const Connection& connection, const wire::Frame& frame) {
    return Error(ErrorCode::kProtocol, connection.peer() + " sent an unexpected " +
                                           std::string(wire::name_of(frame.header.type)));
  }

  Status stream(const wire::Ticket& ticket,
                const std::function<void(const std::string&)>& on_text) {
    KVFERRY_ASSIGN(const std::unique_ptr<Channel> channel, connect(ticket.decode_address, kDecode));
    Connection decode(*channel);
    KVFERRY_TRY(of(kDecode, decode.greet(wire::Role::kClient, patience(), cancelled_)));
    wire::Attach attach;
    attach.ticket = ticket.ticket;
    KVFERRY_TRY(of(kDecode, decode.send(wire::MessageType::kAttach, attach, patience())));
    for (;;) {
      KVFERRY_ASSIGN(const wire::Frame frame, next(decode, kDecode));
      if (frame.header.type == wire::MessageType::kDone) {
        KVFERRY_ASSIGN(wire::Done done, wire::parse_done(frame.payload));
        result_.text += done.text;
        on_text(done.text);
        result_.reason = done.reason;
        result_.decode_report = std::move(done.report);
        return {};
      }
      if (frame.header.type != wire::MessageType::kToken) return unexpected(decode, frame);
      KVFERRY_ASSIGN(const wire::Token token, wire::parse_token(frame.payload));
      if (token.index != result_.tokens.size()) {
        return Error(ErrorCode::kProtocol, std::string(kDecode) + " sent token " +
                                               std::to_string(token.index) + " after " +
                                               std::to_string(result_.tokens.size()));
      }
      if (token.index == 0) result_.first_token_seconds = seconds();
      if (token.index == 1) result_.second_token_seconds = seconds();
      result_.tokens.push_back(token.token);
      result_.text += token.text;
      on_text(token.text);
    }
  }

  // Until the prefill node is done, or has failed, or the decode node has.
  void listen_to_prefill(Connection& prefill) {
    std::optional<Deadline> grace;
    while (!grace || !grace->expired()) {
      const auto frame = prefill.receive(Deadline::after(kCancelPoll));
      if (!frame.ok()) {
        if (frame.error().code != ErrorCode::kTimeout) {
          prefill_error_ = frame.error();
          return;
        }
        if (decode_done_ && !grace) grace = Deadline::after(kGrace);
        continue;
      }
      if (frame->header.type == wire::MessageType::kDone) {
        const auto done = wire::parse_done(frame->payload);
        if (done.ok()) result_.prefill_report = done->report;
        return;
      }
    }
  }

  // The decode node knows that the hand-off failed; the prefill node may know why.
  Error explain(const Error& error) const {
    if (prefill_error_.ok() || error.code == ErrorCode::kCancelled) return error;
    return Error(error.code, error.message + "; " + of(kPrefill, prefill_error_).error().message);
  }

  const ClientOptions& options_;
  const Cancelled cancelled_;
  Deadline::Clock::time_point started_;
  GenerationResult result_;  // prefill_report: the listener's until it is joined
  Status prefill_error_;     // likewise
  std::atomic<bool> decode_done_{false};
};

}  // namespace

Result<GenerationResult> generate(const ClientOptions& options, const wire::Generate& request,
                                  const std::function<void(const std::string&)>& on_text,
                                  const std::atomic<bool>& cancel) {
  return Request(options, cancel).run(request, on_text);
}

}  // namespace kvferry
