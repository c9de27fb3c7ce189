// Codebooks and predictors as MODEL_DATA messages, and what comes of them.
#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "kvferry/codec/codebook.hpp"
#include "kvferry/codec/predictor.hpp"
#include "kvferry/core/result.hpp"
#include "kvferry/wire/messages.hpp"

namespace kvferry::wire {

// Most bytes of a codebook or predictor in one message: little enough that a PING or a first token
// is not held up behind it.
constexpr std::uint32_t kModelDataPiece = 256u << 10;

// A codebook or a predictor on its way out, piece by piece.
class ModelDataPieces {
 public:
  // `bytes` outlive this; payloads of at most `max_payload` bytes.
  ModelDataPieces(ModelDataKind kind, std::uint64_t id, Bytes bytes, std::uint32_t max_payload)
      : kind_(kind),
        id_(id),
        bytes_(bytes),
        piece_(std::min(kModelDataPiece, max_payload - kModelDataHeadBytes)) {}

  bool empty() const { return offset_ == bytes_.size(); }
  // Only while not empty().
  ModelData next() {
    ModelData data;
    data.kind = kind_;
    data.id = id_;
    data.total = static_cast<std::uint32_t>(bytes_.size());
    data.offset = static_cast<std::uint32_t>(offset_);
    data.bytes = bytes_.subspan(offset_, std::min<std::size_t>(piece_, bytes_.size() - offset_));
    offset_ += data.bytes.size();
    return data;
  }

 private:
  ModelDataKind kind_;
  std::uint64_t id_;
  Bytes bytes_;
  std::size_t piece_;
  std::size_t offset_ = 0;
};

// A codebook or a predictor on its way in. Memory grows with what came, up to the total that was
// agreed on beforehand.
class ModelDataAssembly {
 public:
  ModelDataAssembly(ModelDataKind kind, std::uint64_t id, std::uint32_t total)
      : kind_(kind), id_(id), total_(total) {}

  ModelDataKind kind() const { return kind_; }
  std::uint64_t id() const { return id_; }
  bool begun() const { return received_ != 0; }
  bool complete() const { return received_ == total_; }

  // kMismatch for another one than is expected, kResourceExhausted for another size, kProtocol out
  // of order.
  Status add(const ModelData& data) {
    const std::string name = name_of(kind_);
    if (data.kind != kind_ || data.id != id_) {
      return Error(
          ErrorCode::kMismatch,
          "MODEL_DATA of another " + std::string(name_of(data.kind)) + " than the offered " + name);
    }
    if (data.total != total_) {
      return Error(ErrorCode::kResourceExhausted,
                   "MODEL_DATA of a " + name + " of " + std::to_string(data.total) +
                       " bytes; the offered one has " + std::to_string(total_));
    }
    if (data.offset != received_) {
      return Error(ErrorCode::kProtocol, "MODEL_DATA of a " + name + " at byte " +
                                             std::to_string(data.offset) + " where byte " +
                                             std::to_string(received_) + " is next");
    }
    bytes_.insert(bytes_.end(), data.bytes.begin(), data.bytes.end());
    received_ += static_cast<std::uint32_t>(data.bytes.size());
    return {};
  }
  // kIncomplete, when it has begun and does not end: `what` comes in its place.
  Status check_whole(const char* what) const {
    if (!begun() || complete()) return {};
    return Error(ErrorCode::kIncomplete, std::string(what) + " after " + std::to_string(received_) +
                                             " of " + std::to_string(total_) + " bytes of the " +
                                             name_of(kind_));
  }
  // Once, when complete().
  std::vector<std::uint8_t> take() { return std::move(bytes_); }

 private:
  ModelDataKind kind_;
  std::uint64_t id_;
  std::uint32_t total_;
  std::uint32_t received_ = 0;
  std::vector<std::uint8_t> bytes_;
};

// Bytes that came as the codebook that `offer` names, for caches of `geometry`. kChecksum when they
// have another id, kMismatch when it is another model's or shape's, and as Codebook::parse().
inline Result<std::shared_ptr<const Codebook>> open_codebook(Bytes bytes, const Offer& offer,
                                                             const KvGeometry& geometry) {
  KVFERRY_ASSIGN(std::shared_ptr<const Codebook> codebook, Codebook::parse(bytes));
  if (codebook->id() != offer.codebook) {
    return Error(ErrorCode::kChecksum, "the codebook that came is not the one that was offered");
  }
  if (codebook->model() != Codebook::model_of(offer.identity)) {
    return Error(ErrorCode::kMismatch, "the codebook that came was made for another model");
  }
  KVFERRY_TRY(codebook->fits(geometry));
  return codebook;
}

// Likewise of the predictor, which was made for `codebook`.
inline Result<std::shared_ptr<const Predictor>> open_predictor(Bytes bytes, const Offer& offer,
                                                               const KvGeometry& geometry,
                                                               const Codebook& codebook) {
  KVFERRY_ASSIGN(std::shared_ptr<const Predictor> predictor, Predictor::parse(bytes));
  if (predictor->id() != offer.predictor) {
    return Error(ErrorCode::kChecksum, "the predictor that came is not the one that was offered");
  }
  if (predictor->model() != codebook.model()) {
    return Error(ErrorCode::kMismatch, "the predictor that came was made for another model");
  }
  KVFERRY_TRY(predictor->serves(geometry, &codebook));
  return predictor;
}

}  // namespace kvferry::wire
