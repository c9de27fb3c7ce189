// SendSession: hands one cache over a connection while it is still being computed.
#pragma once

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#include "kvferry/cache/source_sink.hpp"
#include "kvferry/codec/block.hpp"
#include "kvferry/core/result.hpp"
#include "kvferry/core/stopwatch.hpp"
#include "kvferry/handoff/connection.hpp"
#include "kvferry/handoff/report.hpp"
#include "kvferry/handoff/sender.hpp"
#include "kvferry/handoff/session_thread.hpp"
#include "kvferry/wire/messages.hpp"

namespace kvferry {

struct SendOptions {
  std::uint16_t source = 1;              // which of the offer's sources this end is
  std::uint32_t epoch = 1;               // attempt of this hand-off; grows when it is tried again
  bool sends_first_token = true;         // when the offer has a decode order
  std::uint32_t encode_threads = 1;      // at least 1
  std::size_t pending_bytes = 4u << 20;  // coded blocks that may wait to be sent
  HandoffTimeouts timeouts;
  // For the profiles `high` to `lowest`, when the receiver has the same one or wants it: then it is
  // sent first, a few bytes a channel. Null: blocks scale themselves.
  std::shared_ptr<const Codebook> codebook;
  // Likewise, made for the codebook. It may be megabytes: the hand-off to a receiver that lacks it
  // goes unpredicted, so that no token waits for it, and send_predictor() makes up for it.
  std::shared_ptr<const Predictor> predictor;
  // Send it ahead of the blocks instead, which then wait for it: for a long prompt, whose blocks
  // shrink by more than the predictor takes.
  bool predictor_ahead = false;
  // Where prediction is computed; called from all encoding threads.
  MatrixProduct product = ordered_product;
};

// Owns the connection from start() until it is destroyed. Everything here may be called from any
// thread. Nothing that the prefill calls waits for the network: publish() only notes what is ready,
// and worker threads read, encode and send it as the receiver's credit allows.
class SendSession {
 public:
  // Sends the offer. `connection` has greeted; it, and `source`, must live longer than the session.
  // The rows of `source` are of the type, and cover the layers, that the offer declares for this
  // source. Blocks are encoded with offer.profile; offer.codebook is set from the options.
  static Result<std::unique_ptr<SendSession>> start(Connection& connection, const KvSource& source,
                                                    wire::Offer offer,
                                                    const SendOptions& options = {});
  // Cancels when the hand-off is not finished, and waits for the threads.
  ~SendSession();
  SendSession(const SendSession&) = delete;
  SendSession& operator=(const SendSession&) = delete;

  // K and V of tokens [begin, end) of a layer are final and readable. What the receiver already
  // holds may be published or left out. kInvalidArgument outside of the coverage or twice; else the
  // error that ended the hand-off. `token_classes`: as BlockSpec has them, of each of the tokens;
  // empty: all of class 0.
  Status publish(std::uint32_t layer, std::uint32_t begin, std::uint32_t end,
                 Span<const std::uint8_t> token_classes = {});

  // Goes out ahead of every block that waits. Once, and only when the offer has a decode order.
  Status send_first_token(const wire::FirstToken& token);

  // The receiver's answer to the offer, as soon as it is there: it says which prefix need not be
  // computed for its sake. Waits at most until the time-out of the offer.
  Result<wire::Accept> accepted();

  // Waits until the receiver has committed. Everything has to be published, and the first token
  // sent, before or meanwhile.
  Result<HandoffReceipt> finish();

  // After finish(): whether send_predictor() has one to send.
  bool owes_predictor() const {
    const std::lock_guard<std::mutex> lock(mutex_);
    return machine_.state() == HandoffSender::State::kCommitted &&
           machine_.model_data().owes_predictor();
  }
  // After finish(): sends the predictor, if the receiver wants it and the hand-off went without, on
  // the same connection. Pieces are sent until `cancelled` says so, each within `patience`. Returns
  // how many bytes of it were sent.
  Result<std::uint64_t> send_predictor(std::chrono::milliseconds patience,
                                       const Cancelled& cancelled = {});

  // Ends the hand-off; the receiver is told `reason` and keeps nothing, unless it has everything
  // and is committing already.
  void cancel(const Error& reason);

  // So far.
  HandoffReport report() const;

 private:
  SendSession(Connection& connection, const KvSource& source, HandoffSender machine,
              std::uint8_t profile, std::uint32_t tokens, const SendOptions& send_options,
              const SenderOptions& options);
  Status start_threads(std::uint32_t encoders);
  void stop();
  void read_frames();
  void write_frames();
  void run_encoder();
  void encode_blocks();
  // Reads and encodes one block into `block`. The buffers are the thread's own.
  struct EncodeBuffers {
    EncodeBuffers(const KvGeometry& geometry, std::shared_ptr<const Codebook> codebook,
                  const PredictionOptions& prediction)
        : encoder(geometry, std::move(codebook), prediction) {}
    BlockEncoder encoder;
    std::vector<std::uint8_t> rows;
    std::vector<std::uint8_t> coded;
    std::vector<std::uint8_t> token_classes;  // of the block
    HandoffReport report;                     // of the block that was made last
  };
  Result<OutgoingFrame> make_block(const KvRange& range, EncodeBuffers& buffers) const;
  // The mutex is held for these.
  PredictionOptions prediction();
  HandoffReport report_now() const;
  // The classes of a block's tokens, or nothing.
  void take_token_classes(const KvRange& range, std::vector<std::uint8_t>& classes) const;
  void note_state();

  Connection& connection_;
  const KvSource& source_;
  const std::uint8_t profile_;
  const std::shared_ptr<const Codebook> codebook_;
  const std::shared_ptr<const Predictor> predictor_;
  const MatrixProduct product_;
  const std::uint32_t tokens_;
  const SenderOptions options_;
  const TimePoint started_ = Deadline::Clock::now();
  const std::uint64_t sent_before_;
  const std::uint64_t received_before_;

  mutable std::mutex mutex_;  // of what follows
  std::condition_variable changed_;
  HandoffSender machine_;
  HandoffReport report_;
  std::map<std::uint32_t, std::vector<std::uint8_t>> token_classes_;  // by layer, from position 0
  std::shared_ptr<DecodedRows> decoded_;  // of the encoders, with a predictor
  std::optional<TimePoint> ending_since_;
  std::optional<TimePoint> over_since_;
  bool writer_done_ = false;

  std::vector<std::thread> threads_;
};

inline Result<std::unique_ptr<SendSession>> SendSession::start(Connection& connection,
                                                               const KvSource& source,
                                                               wire::Offer offer,
                                                               const SendOptions& options) {
  SenderOptions machine_options;
  machine_options.address = {connection.next_handoff(), options.epoch, options.source};
  machine_options.sends_first_token = options.sends_first_token;
  machine_options.max_payload = std::min(connection.peer_hello().max_payload, wire::kMaxPayload);
  machine_options.pending_bytes = options.pending_bytes;
  machine_options.timeouts = options.timeouts;
  const std::uint8_t profile = offer.profile;
  const bool has_codebook =
      options.codebook != nullptr && is_quantised(static_cast<Profile>(profile));
  const bool has_predictor = has_codebook && options.predictor != nullptr;
  offer.codebook = offer.predictor = 0;
  offer.codebook_bytes = offer.predictor_bytes = 0;
  if (has_codebook) {
    machine_options.model_data.codebook = options.codebook->bytes();
    offer.codebook = options.codebook->id();
    offer.codebook_bytes = static_cast<std::uint32_t>(options.codebook->bytes().size());
  }
  if (has_predictor) {
    machine_options.model_data.predictor = options.predictor->bytes();
    machine_options.model_data.predictor_ahead = options.predictor_ahead;
    offer.predictor = options.predictor->id();
    offer.predictor_bytes = static_cast<std::uint32_t>(options.predictor->bytes().size());
  }
  const auto tokens = static_cast<std::uint32_t>(offer.tokens.size());
  KVFERRY_ASSIGN(HandoffSender machine,
                 HandoffSender::create(std::move(offer), source.geometry(), machine_options,
                                       Deadline::Clock::now()));
  std::unique_ptr<SendSession> session(new SendSession(connection, source, std::move(machine),
                                                       profile, tokens, options, machine_options));
  KVFERRY_TRY(session->start_threads(std::max(options.encode_threads, 1u)));
  return session;
}

inline SendSession::SendSession(Connection& connection, const KvSource& source,
                                HandoffSender machine, std::uint8_t profile, std::uint32_t tokens,
                                const SendOptions& send_options, const SenderOptions& options)
    : connection_(connection),
      source_(source),
      profile_(profile),
      codebook_(send_options.codebook),
      predictor_(send_options.predictor),
      product_(send_options.product),
      tokens_(tokens),
      options_(options),
      sent_before_(connection.bytes_sent()),
      received_before_(connection.bytes_received()),
      machine_(std::move(machine)) {}

inline SendSession::~SendSession() {
  cancel(Error(ErrorCode::kCancelled, "the sender gave up"));
  stop();
}

inline Status SendSession::start_threads(std::uint32_t encoders) {
  try {
    threads_.emplace_back([this] { read_frames(); });
    threads_.emplace_back([this] { write_frames(); });
    for (std::uint32_t i = 0; i < encoders; ++i) threads_.emplace_back([this] { run_encoder(); });
  } catch (const std::system_error& e) {
    return Error(ErrorCode::kResourceExhausted,
                 std::string("hand-off: no thread can be started: ") + e.what());
  }
  return {};
}

inline void SendSession::stop() {
  for (std::thread& thread : threads_) thread.join();
  threads_.clear();
  connection_.retire(options_.address.handoff);
}

inline void SendSession::note_state() {
  const TimePoint now = Deadline::Clock::now();
  if (machine_.state() == HandoffSender::State::kEnding && !ending_since_) ending_since_ = now;
  if (machine_.is_over() && !over_since_) over_since_ = now;
  changed_.notify_all();
}

inline Status SendSession::publish(std::uint32_t layer, std::uint32_t begin, std::uint32_t end,
                                   Span<const std::uint8_t> token_classes) {
  if (!token_classes.empty() && (begin > end || token_classes.size() != end - begin)) {
    return Error(ErrorCode::kInvalidArgument, "classes of " + std::to_string(token_classes.size()) +
                                                  " tokens for tokens [" + std::to_string(begin) +
                                                  ", " + std::to_string(end) + ")");
  }
  const std::lock_guard<std::mutex> lock(mutex_);
  KVFERRY_TRY(machine_.publish(layer, begin, end));
  if (!token_classes.empty()) {
    std::vector<std::uint8_t>& classes = token_classes_[layer];
    classes.resize(std::max<std::size_t>(classes.size(), end));
    std::copy(token_classes.begin(), token_classes.end(), classes.begin() + begin);
  }
  note_state();
  return {};
}

inline void SendSession::take_token_classes(const KvRange& range,
                                            std::vector<std::uint8_t>& classes) const {
  classes.clear();
  const auto found = token_classes_.find(range.layer);
  if (found == token_classes_.end()) return;
  classes.resize(range.tokens());
  const std::vector<std::uint8_t>& all = found->second;
  for (std::uint32_t t = 0; t < range.tokens() && range.begin + t < all.size(); ++t)
    classes[t] = all[range.begin + t];
}

inline Status SendSession::send_first_token(const wire::FirstToken& token) {
  const std::lock_guard<std::mutex> lock(mutex_);
  Status status = machine_.send_first_token(token);
  note_state();
  return status;
}

inline Result<wire::Accept> SendSession::accepted() {
  std::unique_lock<std::mutex> lock(mutex_);
  changed_.wait(lock, [this] { return machine_.accept() || machine_.is_over(); });
  if (machine_.accept()) return *machine_.accept();
  return machine_.error();
}

inline Result<HandoffReceipt> SendSession::finish() {
  std::unique_lock<std::mutex> lock(mutex_);
  changed_.wait(lock, [this] { return machine_.is_over(); });
  if (machine_.state() == HandoffSender::State::kFailed) return machine_.error();
  const wire::Committed& committed = machine_.committed();
  return HandoffReceipt{KvCommit{committed.generation, committed.length}, report_now()};
}

inline Result<std::uint64_t> SendSession::send_predictor(std::chrono::milliseconds patience,
                                                         const Cancelled& cancelled) {
  if (!owes_predictor()) return std::uint64_t{0};
  wire::ModelDataPieces pieces(wire::ModelDataKind::kPredictor, predictor_->id(),
                               predictor_->bytes(), options_.max_payload);
  while (!pieces.empty()) {
    if (cancelled && cancelled()) return Error(ErrorCode::kCancelled, "cancelled");
    KVFERRY_TRY(
        connection_.send(wire::MessageType::kModelData, pieces.next(), Deadline::after(patience)));
  }
  return std::uint64_t{predictor_->bytes().size()};
}

inline PredictionOptions SendSession::prediction() {
  if (!machine_.model_data().uses_predictor()) return {};
  if (decoded_ == nullptr) {
    decoded_ =
        std::make_shared<DecodedRows>(*predictor_, DecodedRows::bytes_for(*predictor_, tokens_));
  }
  return {predictor_, product_, decoded_};
}

inline void SendSession::cancel(const Error& reason) {
  const std::lock_guard<std::mutex> lock(mutex_);
  machine_.cancel(reason);
  note_state();
}

inline HandoffReport SendSession::report() const {
  const std::lock_guard<std::mutex> lock(mutex_);
  return report_now();
}

inline HandoffReport SendSession::report_now() const {
  HandoffReport report = report_;
  const TimePoint end = over_since_ ? *over_since_ : Deadline::Clock::now();
  report.blocks = machine_.blocks_sent();
  report.payload_bytes = machine_.payload_bytes_sent();
  report.model_data_bytes = machine_.model_data().bytes();
  report.used_codebook = machine_.model_data().uses_codebook();
  report.used_predictor = machine_.model_data().uses_predictor();
  report.sent_bytes = connection_.bytes_sent() - sent_before_;
  report.wire_bytes = report.sent_bytes + connection_.bytes_received() - received_before_;
  if (ending_since_) report.commit_seconds = seconds_between(*ending_since_, end);
  report.total_seconds = seconds_between(started_, end);
  return report;
}

// Also the clock of the state machine: it ticks whenever nothing comes for a while.
inline void SendSession::read_frames() {
  std::uint64_t bytes_before = connection_.bytes_received();
  for (;;) {
    const TimePoint waiting_since = Deadline::Clock::now();
    auto frame = connection_.receive_any(Deadline(waiting_since + kTick));
    const TimePoint now = Deadline::Clock::now();
    std::unique_lock<std::mutex> lock(mutex_);
    report_.receive_seconds += seconds_between(waiting_since, now);
    if (machine_.is_over()) {
      if (frame.ok()) connection_.unreceive(*std::move(frame));
    } else if (frame.ok()) {
      machine_.on_frame(*frame, now);
    } else if (frame.error().code == ErrorCode::kTimeout) {
      if (connection_.bytes_received() != bytes_before) machine_.on_bytes(now);
    } else if (is_broken(frame.error().code)) {
      machine_.on_broken(frame.error());
    } else {
      machine_.on_malformed(frame.error());
    }
    bytes_before = connection_.bytes_received();
    machine_.on_tick(now);
    note_state();
    if (!machine_.is_over()) continue;
    // What is left to tell the peer is told, unless it does not listen.
    if (!changed_.wait_for(lock, kFarewell, [this] { return writer_done_; })) connection_.close();
    return;
  }
}

inline void SendSession::write_frames() {
  std::unique_lock<std::mutex> lock(mutex_);
  for (;;) {
    const auto frame = machine_.take_frame(Deadline::Clock::now());
    if (!frame && machine_.is_over()) break;
    if (!frame) {
      changed_.wait(lock);
      continue;
    }
    note_state();
    lock.unlock();
    const TimePoint sending_since = Deadline::Clock::now();
    const Status sent = connection_.send_frame(frame->header, frame->head, frame->tail,
                                               Deadline(sending_since + options_.timeouts.stall));
    const double seconds = seconds_between(sending_since, Deadline::Clock::now());
    lock.lock();
    if (frame->header.type == wire::MessageType::kBlock) report_.send_seconds += seconds;
    if (!sent.ok()) {
      machine_.on_broken(sent.error());
      break;
    }
  }
  writer_done_ = true;
  note_state();
}

inline void SendSession::run_encoder() {
  const Status ran = without_exceptions([this] {
    encode_blocks();
    return Status();
  });
  if (!ran.ok()) cancel(ran.error());
}

inline void SendSession::encode_blocks() {
  std::optional<EncodeBuffers> coder;
  std::unique_lock<std::mutex> lock(mutex_);
  while (!machine_.is_over()) {
    const auto range = machine_.take_block();
    if (!range) {
      changed_.wait(lock);
      continue;
    }
    if (!coder) {  // there are blocks only after the receiver's answer
      coder.emplace(source_.geometry(), machine_.model_data().uses_codebook() ? codebook_ : nullptr,
                    prediction());
    }
    EncodeBuffers& buffers = *coder;
    take_token_classes(*range, buffers.token_classes);
    lock.unlock();
    buffers.report = {};
    auto block = without_exceptions([&] { return make_block(*range, buffers); });
    lock.lock();
    report_.raw_bytes += buffers.rows.size();
    report_.read_seconds += buffers.report.read_seconds;
    report_.encode_seconds += buffers.report.encode_seconds;
    report_.side_bytes += buffers.report.side_bytes;
    report_.symbol_bytes += buffers.report.symbol_bytes;
    if (block.ok()) {
      machine_.block_encoded(*range, *std::move(block));
    } else {
      machine_.block_failed(block.error());
    }
    note_state();
  }
}

inline Result<OutgoingFrame> SendSession::make_block(const KvRange& range,
                                                     EncodeBuffers& buffers) const {
  const KvGeometry& geometry = source_.geometry();
  const TimePoint begin = Deadline::Clock::now();
  buffers.rows.resize(range.tokens() * geometry.row_bytes());
  KVFERRY_TRY(source_.read(range, buffers.rows));
  const TimePoint read = Deadline::Clock::now();
  buffers.coded.resize(maximum_encoded_size(geometry, range.tokens()));
  BlockSpec spec;
  spec.profile = static_cast<Profile>(profile_);
  spec.range = range;
  spec.token_classes = buffers.token_classes;
  KVFERRY_ASSIGN(const BlockSize size, buffers.encoder.encode(spec, buffers.rows, buffers.coded));
  const TimePoint encoded = Deadline::Clock::now();
  buffers.report.read_seconds = seconds_between(begin, read);
  buffers.report.encode_seconds = seconds_between(read, encoded);
  buffers.report.side_bytes = size.side;
  buffers.report.symbol_bytes = size.symbols;
  const Bytes coded = Bytes(buffers.coded).first(size.total());
  return outgoing_block(options_.address, range, profile_,
                        std::vector<std::uint8_t>(coded.begin(), coded.end()));
}

}  // namespace kvferry
