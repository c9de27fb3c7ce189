// receive_handoff and ReceiveSession: take a cache from one connection, or from several at once.
#pragma once

#include <algorithm>
#include <cassert>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
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
#include "kvferry/handoff/receiver.hpp"
#include "kvferry/handoff/receiver_model_data.hpp"
#include "kvferry/handoff/report.hpp"
#include "kvferry/handoff/session_thread.hpp"
#include "kvferry/handoff/terms.hpp"
#include "kvferry/model/identity.hpp"
#include "kvferry/wire/messages.hpp"

namespace kvferry {

// Where an offered cache goes, and on which terms. Tokens [max(offer.replace_begin, held_prefix),
// end) are received.
struct HandoffAcceptance : HandoffTerms {
  KvSink* sink = nullptr;  // outlives the hand-off; begin() is called by the hand-off
};

// The application's side of a hand-off that comes in. Called from the threads that serve the
// hand-off, one call at a time.
class HandoffHandler {
 public:
  virtual ~HandoffHandler() = default;
  // The offer's model is already known to match. An error refuses the offer and is told to the
  // sender.
  virtual Result<HandoffAcceptance> on_offer(const wire::Offer& offer) = 0;
  // Comes ahead of the cache, at most once, with a token id that the model has. An error fails the
  // hand-off and is told to the sender; nothing is committed before the call returns.
  virtual Status on_first_token(const wire::FirstToken& token) = 0;
};

struct ReceiveOptions : ReceiverModelDataOptions {
  std::uint64_t credit = 4u << 20;   // payload bytes of blocks under way or waiting to be written
  std::uint32_t decode_threads = 1;  // at least 1
  HandoffTimeouts timeouts;
};

// One hand-off from one or several sources. Memory: the credit; for each decoding thread the
// decoder's scratch and the rows of one block; codebook and predictor; with a predictor the rows of
// the few layers that blocks are predicted from, as DecodedRows::bytes_for() says.
class ReceiveSession {
 public:
  // `identity` is compared with the offer's; the handler outlives the session.
  ReceiveSession(const ModelIdentity& identity, HandoffHandler& handler,
                 const ReceiveOptions& options = {})
      : handler_(handler),
        options_(options),
        model_data_(options),
        machine_(identity, ReceiverOptions{options.credit, options.timeouts}) {}
  // After every serve() has returned.
  ~ReceiveSession();
  ReceiveSession(const ReceiveSession&) = delete;
  ReceiveSession& operator=(const ReceiveSession&) = delete;

  // Serves the connection of one source, from its OFFER on and until the hand-off is committed or
  // has failed; each source has a thread that calls this. All of them return the same outcome,
  // except one whose offer does not fit the hand-off. When it returns, the source was told of the
  // outcome, nothing writes to the sink any more, and the connection can be used again unless it
  // is the connection that broke.
  Result<HandoffReceipt> serve(Connection& connection, const wire::Frame& offer);

  // Ends the hand-off from any thread; the sources are told `reason`. Too late once everything has
  // come and is being committed.
  void cancel(const Error& reason);

 private:
  // One call of serve().
  struct Line {
    Line(Connection& c, std::size_t l) : connection(c), link(l) {}
    Connection& connection;
    const std::size_t link;
    const TimePoint started = Deadline::Clock::now();
    const std::uint64_t sent_before = connection.bytes_sent();
    const std::uint64_t received_before = connection.bytes_received();
    double receive_seconds = 0;
    bool writer_done = false;
  };
  struct DecodeBuffers {
    DecodeBuffers(const KvGeometry& geometry, std::shared_ptr<const Codebook> with_codebook,
                  const PredictionOptions& prediction)
        : codebook(std::move(with_codebook)),
          predictor(prediction.predictor),
          decoder(geometry, codebook, prediction) {}
    const std::shared_ptr<const Codebook> codebook;
    const std::shared_ptr<const Predictor> predictor;
    BlockDecoder decoder;
    std::vector<std::uint8_t> rows;
    double decode_seconds = 0;  // of the block that was written last
    double write_seconds = 0;
  };

  void read_frames(Line& line);
  void write_frames(Line& line);
  void run_decoder();
  void decode_blocks();
  void make_ready(std::optional<DecodeBuffers>& buffers);
  Status write_block(const HandoffReceiver::BlockEvent& block, DecodeBuffers& buffers);
  void ask_application();
  Status decide(HandoffTerms& terms, ModelDataAnswers& answers);
  void commit(std::unique_lock<std::mutex>& lock);
  void abort_sink(std::unique_lock<std::mutex>& lock);
  HandoffReport report_of(const Line& line) const;

  HandoffHandler& handler_;
  const ReceiveOptions options_;
  ReceiverModelData model_data_;
  std::mutex handler_mutex_;  // one call of the handler at a time; taken before mutex_

  std::mutex mutex_;  // of what follows
  std::condition_variable changed_;
  HandoffReceiver machine_;
  HandoffReport report_;    // of the decoding threads
  KvSink* sink_ = nullptr;  // begun, neither committed nor aborted
  KvGeometry geometry_;     // the sink's; does not change once there are decoding threads
  std::vector<std::thread> decoders_;
};

// A hand-off from a single source.
inline Result<HandoffReceipt> receive_handoff(Connection& connection, const wire::Frame& offer,
                                              const ModelIdentity& identity,
                                              HandoffHandler& handler,
                                              const ReceiveOptions& options = {}) {
  ReceiveSession session(identity, handler, options);
  return session.serve(connection, offer);
}

inline ReceiveSession::~ReceiveSession() {
  cancel(Error(ErrorCode::kCancelled, "the receiver gave up"));
  for (std::thread& thread : decoders_) thread.join();
}

inline void ReceiveSession::cancel(const Error& reason) {
  const std::lock_guard<std::mutex> lock(mutex_);
  machine_.cancel(reason);
  changed_.notify_all();
}

inline Result<HandoffReceipt> ReceiveSession::serve(Connection& connection,
                                                    const wire::Frame& offer) {
  std::unique_lock<std::mutex> lock(mutex_);
  const TimePoint now = Deadline::Clock::now();
  Line line(connection, machine_.add_link(now));
  machine_.on_frame(line.link, offer, now);
  lock.unlock();

  std::thread writer;
  try {
    writer = std::thread([&] { write_frames(line); });
  } catch (const std::system_error& e) {
    const Error error(ErrorCode::kResourceExhausted,
                      std::string("hand-off: no thread can be started: ") + e.what());
    connection.send_error(error, Deadline::after(kFarewell), offer.header.address);
    lock.lock();
    machine_.on_broken(line.link, error);
    changed_.notify_all();
    return error;
  }
  read_frames(line);

  // What is left to tell the peer is told, unless it does not listen.
  lock.lock();
  if (!changed_.wait_for(lock, kFarewell, [&] { return line.writer_done; })) connection.close();
  lock.unlock();
  writer.join();
  connection.retire(offer.header.address.handoff);

  lock.lock();
  if (machine_.state() == HandoffReceiver::State::kCommitted && !machine_.refused(line.link)) {
    HandoffReceipt receipt{machine_.commit(), report_of(line)};
    if (machine_.awaits_predictor(line.link))
      receipt.predictor_fetch = model_data_.fetch(machine_.offer(), geometry_);
    return receipt;
  }
  abort_sink(lock);
  return machine_.error(line.link);
}

// Also the clock of the state machine: it ticks whenever nothing comes for a while.
inline void ReceiveSession::read_frames(Line& line) {
  std::uint64_t bytes_before = line.connection.bytes_received();
  for (;;) {
    ask_application();
    {
      std::unique_lock<std::mutex> lock(mutex_);
      if (machine_.is_over(line.link)) return;
      if (!machine_.awaits_frames()) {
        // Nothing more is to come, so that only the decoders and the commit are waited for, which
        // must not have to wait for this thread's next look.
        changed_.wait_for(lock, kTick);
        machine_.on_tick(Deadline::Clock::now());
        changed_.notify_all();
        continue;
      }
    }
    const TimePoint waiting_since = Deadline::Clock::now();
    auto frame = line.connection.receive_any(Deadline(waiting_since + kTick));
    const TimePoint now = Deadline::Clock::now();

    const std::lock_guard<std::mutex> lock(mutex_);
    line.receive_seconds += seconds_between(waiting_since, now);
    if (machine_.is_over(line.link)) {
      if (frame.ok()) line.connection.unreceive(*std::move(frame));
      return;
    }
    if (frame.ok()) {
      machine_.on_frame(line.link, *std::move(frame), now);
    } else if (frame.error().code == ErrorCode::kTimeout) {
      if (line.connection.bytes_received() != bytes_before) machine_.on_bytes(line.link, now);
    } else if (is_broken(frame.error().code)) {
      machine_.on_broken(line.link, frame.error());
    } else {
      machine_.on_malformed(line.link, frame.error());
    }
    bytes_before = line.connection.bytes_received();
    machine_.on_tick(now);
    changed_.notify_all();
  }
}

inline void ReceiveSession::write_frames(Line& line) {
  std::unique_lock<std::mutex> lock(mutex_);
  for (;;) {
    const auto frame = machine_.take_frame(line.link, Deadline::Clock::now());
    if (!frame && machine_.is_over(line.link)) break;
    if (!frame) {
      changed_.wait(lock);
      continue;
    }
    lock.unlock();
    const Status sent = line.connection.send_frame(frame->header, frame->head, frame->tail,
                                                   Deadline::after(options_.timeouts.stall));
    lock.lock();
    if (!sent.ok()) {
      machine_.on_broken(line.link, sent.error());
      break;
    }
  }
  line.writer_done = true;
  changed_.notify_all();
}

// Whatever the state machine wants of the handler. The handler is called without the mutex, so that
// it may call cancel() and take its time.
inline void ReceiveSession::ask_application() {
  const std::lock_guard<std::mutex> one_call(handler_mutex_);
  std::unique_lock<std::mutex> lock(mutex_);
  if (machine_.take_offer()) {
    lock.unlock();
    HandoffTerms terms;
    ModelDataAnswers answers;
    const Status decided = without_exceptions([&] { return decide(terms, answers); });
    lock.lock();
    if (decided.ok()) {
      machine_.accept(terms, Deadline::Clock::now(), answers);
    } else {
      machine_.refuse(decided.error());
    }
    changed_.notify_all();
  }
  if (const auto token = machine_.take_first_token()) {
    lock.unlock();
    const Status taken = without_exceptions([&] { return handler_.on_first_token(*token); });
    lock.lock();
    if (taken.ok()) {
      machine_.first_token_taken();
    } else {
      machine_.first_token_refused(taken.error());
    }
    changed_.notify_all();
  }
}

// Asks the handler, begins the import and starts the decoding threads.
inline Status ReceiveSession::decide(HandoffTerms& terms, ModelDataAnswers& answers) {
  const wire::Offer& offer = machine_.offer();  // does not change any more
  KVFERRY_ASSIGN(const HandoffAcceptance acceptance, handler_.on_offer(offer));
  if (acceptance.sink == nullptr) {
    return Error(ErrorCode::kInvalidArgument, "hand-off: accepted without a sink");
  }
  KVFERRY_TRY(compare_shape(acceptance.sink->geometry(), offer));
  KVFERRY_ASSIGN(const KvImportPlan plan, plan_import(offer, acceptance));
  KVFERRY_TRY(acceptance.sink->begin(plan));
  terms = acceptance;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    sink_ = acceptance.sink;
    geometry_ = sink_->geometry();
  }
  answers = model_data_.answer(offer, geometry_, plan.begin);
  const std::lock_guard<std::mutex> lock(mutex_);
  const std::uint32_t threads = std::max(options_.decode_threads, 1u);
  for (std::uint32_t i = 0; i < threads; ++i) decoders_.emplace_back([this] { run_decoder(); });
  return {};
}

inline void ReceiveSession::run_decoder() {
  const Status ran = without_exceptions([this] {
    decode_blocks();
    return Status();
  });
  if (!ran.ok()) cancel(ran.error());
}

inline void ReceiveSession::decode_blocks() {
  std::unique_lock<std::mutex> lock(mutex_);
  if (machine_.is_over()) return;
  std::optional<DecodeBuffers> buffers;
  while (!machine_.is_over()) {
    if (const auto data = machine_.take_model_data()) {
      lock.unlock();
      const Status taken =
          without_exceptions([&] { return model_data_.take(*data, machine_.offer(), geometry_); });
      lock.lock();
      if (taken.ok()) {
        machine_.model_data_taken(data->kind);
      } else {
        machine_.model_data_refused(taken.error());
      }
      changed_.notify_all();
    } else if (const auto block = machine_.take_block()) {
      lock.unlock();
      const Status written = without_exceptions([&] {
        make_ready(buffers);
        return write_block(*block, *buffers);
      });
      lock.lock();
      if (buffers) {
        report_.raw_bytes += buffers->rows.size();
        report_.decode_seconds += buffers->decode_seconds;
        report_.write_seconds += buffers->write_seconds;
      }
      if (written.ok()) {
        machine_.block_written(*block);
      } else {
        machine_.block_failed(written.error());
      }
      changed_.notify_all();
    } else if (machine_.take_commit()) {
      commit(lock);
    } else {
      changed_.wait(lock);
    }
  }
}

// A codebook or a predictor may have come since the last block.
inline void ReceiveSession::make_ready(std::optional<DecodeBuffers>& buffers) {
  const std::shared_ptr<const Codebook> codebook = model_data_.codebook();
  const PredictionOptions prediction = model_data_.prediction();
  if (buffers && buffers->codebook == codebook && buffers->predictor == prediction.predictor)
    return;
  buffers.emplace(geometry_, codebook, prediction);
}

inline Status ReceiveSession::write_block(const HandoffReceiver::BlockEvent& block,
                                          DecodeBuffers& buffers) {
  const TimePoint begin = Deadline::Clock::now();
  buffers.rows.resize(block.range.tokens() * sink_->geometry().row_bytes());
  BlockTarget target;
  target.range = block.range;
  KVFERRY_TRY(buffers.decoder.decode(target, block.coded(), buffers.rows));
  const TimePoint decoded = Deadline::Clock::now();
  KVFERRY_TRY(sink_->write(block.range, buffers.rows));
  buffers.decode_seconds = seconds_between(begin, decoded);
  buffers.write_seconds = seconds_between(decoded, Deadline::Clock::now());
  return {};
}

inline void ReceiveSession::commit(std::unique_lock<std::mutex>& lock) {
  KvSink& sink = *sink_;
  lock.unlock();
  const TimePoint begin = Deadline::Clock::now();
  const auto done = without_exceptions([&] { return sink.commit(); });
  lock.lock();
  report_.commit_seconds = seconds_between(begin, Deadline::Clock::now());
  if (done.ok()) {
    sink_ = nullptr;
    machine_.committed(*done);
  } else {
    machine_.commit_failed(done.error());
  }
  changed_.notify_all();
}

inline void ReceiveSession::abort_sink(std::unique_lock<std::mutex>& lock) {
  if (machine_.state() != HandoffReceiver::State::kFailed) return;
  changed_.wait(lock, [this] { return machine_.blocks_out() == 0; });
  if (sink_ == nullptr) return;
  sink_->abort();
  sink_ = nullptr;
}

inline HandoffReport ReceiveSession::report_of(const Line& line) const {
  HandoffReport report = report_;
  report.blocks = machine_.blocks_received();
  report.payload_bytes = machine_.payload_bytes_received();
  report.model_data_bytes = machine_.model_data_bytes_received();
  report.used_codebook = model_data_.codebook() != nullptr;
  report.used_predictor = model_data_.prediction().predictor != nullptr;
  report.sent_bytes = line.connection.bytes_sent() - line.sent_before;
  report.wire_bytes = report.sent_bytes + line.connection.bytes_received() - line.received_before;
  report.receive_seconds = line.receive_seconds;
  report.total_seconds = seconds_between(line.started, Deadline::Clock::now());
  return report;
}

}  // namespace kvferry
