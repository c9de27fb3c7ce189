// Both state machines of a hand-off in memory, without threads or a clock: the test moves every
// frame and every block itself.
#pragma once

#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "kvferry/handoff/receiver.hpp"
#include "kvferry/handoff/sender.hpp"

#include "support.hpp"

namespace kvferry::testing {

inline wire::Frame to_frame(OutgoingFrame out) {
  wire::Frame frame;
  frame.header = out.header;
  frame.payload = std::move(out.head);
  frame.payload.insert(frame.payload.end(), out.tail.begin(), out.tail.end());
  return frame;
}

// What a receiver decodes with.
struct ReceivingCoder {
  std::shared_ptr<const Codebook> codebook;
  PredictionOptions prediction;
  ModelDataAnswers answers;
};

// A receiver with its cache.
class ReceivingEnd {
 public:
  ReceivingEnd(std::shared_ptr<KvSequence> sequence, const ModelIdentity& identity,
               const ReceiverOptions& options = {}, const HandoffTerms& terms = {},
               const ReceivingCoder& coder = {})
      : machine(identity, options),
        sequence_(std::move(sequence)),
        sink_(sequence_),
        terms_(terms),
        answers_(coder.answers),
        decoder_(sequence_->geometry(), coder.codebook, coder.prediction) {}

  // Does one thing that the machine wants of the application; false when there is none.
  bool work(TimePoint now) {
    if (machine.take_offer()) {
      const Status decided = decide();
      if (decided.ok()) {
        machine.accept(terms_, now, answers_);
      } else {
        machine.refuse(decided.error());
      }
      return true;
    }
    if (const auto token = holds_first_token ? std::nullopt : machine.take_first_token()) {
      first_tokens.push_back(*token);
      machine.first_token_taken();
      return true;
    }
    if (const auto block = machine.take_block()) {
      rows_.resize(block->range.tokens() * sequence_->geometry().row_bytes());
      BlockTarget target;
      target.range = block->range;
      Status written = decoder_.decode(target, block->coded(), rows_);
      if (written.ok()) written = sink_.write(block->range, rows_);
      if (written.ok()) {
        machine.block_written(*block);
      } else {
        machine.block_failed(written.error());
      }
      return true;
    }
    if (machine.take_commit()) {
      const auto done = sink_.commit();
      if (done.ok()) {
        machine.committed(*done);
      } else {
        machine.commit_failed(done.error());
      }
      return true;
    }
    if (machine.state() == HandoffReceiver::State::kFailed && machine.blocks_out() == 0)
      sink_.abort();
    return false;
  }

  HandoffReceiver machine;
  bool holds_first_token = false;  // leaves it to the test
  std::vector<wire::FirstToken> first_tokens;

 private:
  Status decide() {
    KVFERRY_TRY(compare_shape(sequence_->geometry(), machine.offer()));
    KVFERRY_ASSIGN(const KvImportPlan plan, plan_import(machine.offer(), terms_));
    return sink_.begin(plan);
  }

  std::shared_ptr<KvSequence> sequence_;
  SequenceSink sink_;
  HandoffTerms terms_;
  ModelDataAnswers answers_;
  BlockDecoder decoder_;
  std::vector<std::uint8_t> rows_;
};

// A sender with its source.
class SendingEnd {
 public:
  SendingEnd(const wire::Offer& offer, const KvSource& source, const SenderOptions& options,
             TimePoint now)
      : machine(HandoffSender::create(offer, source.geometry(), options, now).value()),
        source_(source),
        address_(options.address),
        profile_(offer.profile),
        encoder_(source.geometry()) {}

  // Encodes one block if the machine wants one.
  bool work() {
    const auto range = machine.take_block();
    if (!range) return false;
    auto block = make_block(*range);
    if (block.ok()) {
      machine.block_encoded(*range, *std::move(block));
    } else {
      machine.block_failed(block.error());
    }
    return true;
  }

  HandoffSender machine;

 private:
  Result<OutgoingFrame> make_block(const KvRange& range) {
    std::vector<std::uint8_t> rows(range.tokens() * source_.geometry().row_bytes());
    KVFERRY_TRY(source_.read(range, rows));
    std::vector<std::uint8_t> coded(maximum_encoded_size(source_.geometry(), range.tokens()));
    BlockSpec spec;
    spec.profile = static_cast<Profile>(profile_);
    spec.range = range;
    KVFERRY_ASSIGN(const BlockSize size, encoder_.encode(spec, rows, coded));
    coded.resize(size.total());
    return outgoing_block(address_, range, profile_, std::move(coded));
  }

  const KvSource& source_;
  wire::FrameAddress address_;
  std::uint8_t profile_;
  BlockEncoder encoder_;
};

// Publishes everything that `machine`'s offer declares for its source, layer by layer.
inline void publish_all(HandoffSender& machine, const wire::Offer& offer, std::uint16_t source) {
  for (const wire::CoveragePart& part : offer.coverage) {
    if (part.source != source) continue;
    for (std::uint32_t layer = part.first_layer; layer < part.end_layer; ++layer) {
      const Status ignored = machine.publish(layer, part.begin, part.end);
      static_cast<void>(ignored);
    }
  }
}

// One sender and one receiver, and the frames between them.
class MachinePair {
 public:
  // Called with each frame that is about to be delivered, from the sender or not; false loses the
  // connection instead.
  using Filter = std::function<bool(wire::Frame& frame, bool from_sender)>;

  MachinePair(const wire::Offer& offer, const KvSource& source,
              std::shared_ptr<KvSequence> sequence, const ReceiverOptions& receiver_options = {},
              SenderOptions sender_options = {}, const HandoffTerms& terms = {},
              const ModelIdentity& identity = handoff_identity())
      : offer_(offer),
        sender(offer, source, with_address(sender_options), now),
        receiver(std::move(sequence), identity, receiver_options, terms) {
    receiver.machine.add_link(now);
  }

  // Moves one thing on; false when nothing moves any more.
  bool step() {
    if (sender.work()) return true;
    if (receiver.work(now)) return true;
    if (connected) {
      if (auto frame = receiver.machine.take_frame(0, now)) return deliver(to_frame(*frame), false);
      if (auto frame = sender.machine.take_frame(now)) return deliver(to_frame(*frame), true);
    }
    return false;
  }

  void run() {
    while (step()) {
    }
  }

  // Publishes everything and runs to the end.
  void hand_over() {
    publish_all(sender.machine, offer_, 1);
    run();
  }

  void disconnect() {
    if (!connected) return;
    connected = false;
    const Error lost(ErrorCode::kClosed, "the connection is lost");
    sender.machine.on_broken(lost);
    receiver.machine.on_broken(0, lost);
  }

 private:
  static SenderOptions with_address(SenderOptions options) {
    if (options.address.handoff == 0) options.address = {1, 1, 1};
    return options;
  }

  bool deliver(wire::Frame frame, bool from_sender) {
    ++frames;
    if (filter && !filter(frame, from_sender)) {
      disconnect();
      return true;
    }
    if (from_sender) {
      receiver.machine.on_frame(0, std::move(frame), now);
    } else {
      sender.machine.on_frame(frame, now);
    }
    return true;
  }

  wire::Offer offer_;

 public:
  TimePoint now{std::chrono::hours(1)};
  SendingEnd sender;
  ReceivingEnd receiver;
  Filter filter;
  bool connected = true;
  std::uint64_t frames = 0;
};

}  // namespace kvferry::testing
