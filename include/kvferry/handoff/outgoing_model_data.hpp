// OutgoingModelData: the codebook and the predictor of a hand-off on their way to a receiver that
// wants them.
#pragma once

#include <cstdint>
#include <deque>

#include "kvferry/core/span.hpp"
#include "kvferry/wire/messages.hpp"
#include "kvferry/wire/model_data.hpp"

namespace kvferry {

// What a sender has to send. The bytes outlive the hand-off.
struct ModelDataOffered {
  // Serialised forms of what the offer names, for a receiver that wants them. Empty: it goes
  // without.
  Bytes codebook;
  Bytes predictor;
  bool predictor_ahead = false;  // of the blocks, which then wait for it; else it is left out
};

class OutgoingModelData {
 public:
  OutgoingModelData(const ModelDataOffered& offered, std::uint32_t max_payload)
      : offered_(offered), max_payload_(max_payload) {}

  // The receiver has answered.
  void start(const wire::Offer& offer, const wire::Accept& accept) {
    using wire::ModelDataAnswer;
    using wire::ModelDataKind;
    const bool sends_codebook =
        accept.codebook == ModelDataAnswer::kWants && !offered_.codebook.empty();
    uses_codebook_ = accept.codebook == ModelDataAnswer::kHas || sends_codebook;
    const bool may_send_predictor = uses_codebook_ && accept.predictor == ModelDataAnswer::kWants &&
                                    !offered_.predictor.empty();
    const bool sends_predictor = may_send_predictor && offered_.predictor_ahead;
    uses_predictor_ =
        uses_codebook_ && (accept.predictor == ModelDataAnswer::kHas || sends_predictor);
    owes_predictor_ = may_send_predictor && !sends_predictor;
    if (sends_codebook) {
      pieces_.emplace_back(ModelDataKind::kCodebook, offer.codebook, offered_.codebook,
                           max_payload_);
    }
    if (sends_predictor) {
      pieces_.emplace_back(ModelDataKind::kPredictor, offer.predictor, offered_.predictor,
                           max_payload_);
    }
  }

  // Whether there is nothing more to send ahead of the blocks.
  bool empty() const { return pieces_.empty(); }
  // The next piece, which counts as sent; only while not empty().
  wire::ModelData next() {
    const wire::ModelData data = pieces_.front().next();
    if (pieces_.front().empty()) pieces_.pop_front();
    bytes_ += data.bytes.size();
    return data;
  }
  // Forgets what was not sent.
  void clear() { pieces_.clear(); }

  // What blocks are made with, after start().
  bool uses_codebook() const { return uses_codebook_; }
  bool uses_predictor() const { return uses_predictor_; }
  // The receiver wants the predictor, and the blocks do without.
  bool owes_predictor() const { return owes_predictor_; }
  std::uint64_t bytes() const { return bytes_; }  // that were sent

 private:
  ModelDataOffered offered_;
  std::uint32_t max_payload_;
  bool uses_codebook_ = false;
  bool uses_predictor_ = false;
  bool owes_predictor_ = false;
  std::deque<wire::ModelDataPieces> pieces_;
  std::uint64_t bytes_ = 0;
};

}  // namespace kvferry
