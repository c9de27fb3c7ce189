// ReceiverModelData: the codebook and the predictor that a receiver decodes one hand-off with.
// PredictorFetch: a predictor that comes behind it.
#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <utility>

#include "kvferry/codec/block.hpp"
#include "kvferry/codec/model_data_store.hpp"
#include "kvferry/core/result.hpp"
#include "kvferry/handoff/incoming_model_data.hpp"
#include "kvferry/wire/model_data.hpp"

namespace kvferry {

// What a receiver has before a hand-off begins, and whether it asks for what it has not.
struct ReceiverModelDataOptions {
  // What a sender that has the same may use; null: none.
  std::shared_ptr<const Codebook> codebook;
  std::shared_ptr<const Predictor> predictor;  // made for the codebook
  // What came earlier, and where to keep what comes now, of the model of the hand-off. Null: only
  // what stands above is used, and nothing is asked for.
  std::shared_ptr<ModelDataStore> store;
  std::uint64_t max_predictor_bytes = 64u << 20;  // a larger one is not asked for
  // Where prediction is computed; called from all decoding threads.
  MatrixProduct product = ordered_product;
};

// One MODEL_DATA after the other on the connection of a hand-off that is over. Not thread-safe.
class PredictorFetch {
 public:
  // `right`: of store.reserve_predictor().
  PredictorFetch(const wire::Offer& offer, const KvGeometry& geometry,
                 std::shared_ptr<const Codebook> codebook, std::shared_ptr<ModelDataStore> store,
                 std::shared_ptr<const void> right)
      : offer_(offer),
        geometry_(geometry),
        codebook_(std::move(codebook)),
        store_(std::move(store)),
        right_(std::move(right)),
        assembly_(wire::ModelDataKind::kPredictor, offer.predictor, offer.predictor_bytes) {}

  // True when it was the last one: the store has the predictor. An error ends the fetch: as
  // ModelDataAssembly::add() and open_predictor().
  Result<bool> on_data(Bytes payload) {
    KVFERRY_ASSIGN(const wire::ModelData data, wire::parse_model_data(payload));
    KVFERRY_TRY(assembly_.add(data));
    if (!assembly_.complete()) return false;
    KVFERRY_ASSIGN(auto predictor,
                   wire::open_predictor(assembly_.take(), offer_, geometry_, *codebook_));
    store_->add(std::move(predictor));
    return true;
  }
  std::uint32_t total_bytes() const { return offer_.predictor_bytes; }

 private:
  const wire::Offer offer_;
  const KvGeometry geometry_;
  const std::shared_ptr<const Codebook> codebook_;
  const std::shared_ptr<ModelDataStore> store_;
  const std::shared_ptr<const void> right_;
  wire::ModelDataAssembly assembly_;
};

// Any thread may call, answer() once and first.
class ReceiverModelData {
 public:
  explicit ReceiverModelData(ReceiverModelDataOptions options) : options_(std::move(options)) {}

  // To an offer whose tokens from `begin` on come into a cache of `geometry`.
  ModelDataAnswers answer(const wire::Offer& offer, const KvGeometry& geometry,
                          std::uint32_t begin);
  // Verifies what came and keeps it.
  Status take(const ReceivedModelData& data, const wire::Offer& offer, const KvGeometry& geometry);

  std::shared_ptr<const Codebook> codebook() const {
    const std::lock_guard<std::mutex> lock(mutex_);
    return codebook_;
  }
  // With the rows that its decoders share.
  PredictionOptions prediction() const {
    const std::lock_guard<std::mutex> lock(mutex_);
    return {predictor_, options_.product, decoded_};
  }
  // For a predictor that was asked for and did not come.
  std::shared_ptr<PredictorFetch> fetch(const wire::Offer& offer, const KvGeometry& geometry) {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (right_ == nullptr || codebook_ == nullptr || predictor_ != nullptr) return nullptr;
    return std::make_shared<PredictorFetch>(offer, geometry, codebook_, options_.store,
                                            std::exchange(right_, nullptr));
  }

 private:
  wire::ModelDataAnswer answer_codebook(const wire::Offer& offer, const KvGeometry& geometry);
  wire::ModelDataAnswer answer_predictor(const wire::Offer& offer, const KvGeometry& geometry);
  void use(std::shared_ptr<const Predictor> predictor);

  const ReceiverModelDataOptions options_;
  mutable std::mutex mutex_;  // of what follows
  std::uint32_t tokens_ = 0;  // that come
  std::shared_ptr<const Codebook> codebook_;
  std::shared_ptr<const Predictor> predictor_;
  std::shared_ptr<DecodedRows> decoded_;
  std::shared_ptr<const void> right_;  // to fetch a predictor
};

inline ModelDataAnswers ReceiverModelData::answer(const wire::Offer& offer,
                                                  const KvGeometry& geometry, std::uint32_t begin) {
  const auto end = static_cast<std::uint32_t>(offer.tokens.size());
  // The other profiles have no use for either.
  if (!is_quantised(static_cast<Profile>(offer.profile)) || begin >= end) return {};
  const std::lock_guard<std::mutex> lock(mutex_);
  tokens_ = end - begin;
  ModelDataAnswers answers;
  answers.codebook = answer_codebook(offer, geometry);
  if (answers.codebook != wire::ModelDataAnswer::kNone)
    answers.predictor = answer_predictor(offer, geometry);
  return answers;
}

inline wire::ModelDataAnswer ReceiverModelData::answer_codebook(const wire::Offer& offer,
                                                                const KvGeometry& geometry) {
  if (offer.codebook == 0) return wire::ModelDataAnswer::kNone;
  const bool own = options_.codebook != nullptr && options_.codebook->id() == offer.codebook;
  auto codebook = own                         ? options_.codebook
                  : options_.store != nullptr ? options_.store->codebook(offer.codebook)
                                              : nullptr;
  if (codebook != nullptr && codebook->fits(geometry).ok()) {
    codebook_ = std::move(codebook);
    return wire::ModelDataAnswer::kHas;
  }
  // One of another size is of no use here.
  const bool wanted =
      options_.store != nullptr &&
      offer.codebook_bytes == Codebook::bytes_for(offer.layers, offer.kv_heads, offer.head_dim);
  return wanted ? wire::ModelDataAnswer::kWants : wire::ModelDataAnswer::kNone;
}

inline wire::ModelDataAnswer ReceiverModelData::answer_predictor(const wire::Offer& offer,
                                                                 const KvGeometry& geometry) {
  if (offer.predictor == 0) return wire::ModelDataAnswer::kNone;
  const bool own = options_.predictor != nullptr && options_.predictor->id() == offer.predictor;
  auto predictor = own                         ? options_.predictor
                   : options_.store != nullptr ? options_.store->predictor(offer.predictor)
                                               : nullptr;
  // Without its codebook there is nothing to say of it; the codebook comes first.
  if (predictor != nullptr) {
    if (codebook_ == nullptr || !predictor->serves(geometry, codebook_.get()).ok())
      return wire::ModelDataAnswer::kNone;
    use(std::move(predictor));
    return wire::ModelDataAnswer::kHas;
  }
  if (options_.store == nullptr || offer.predictor_bytes > options_.max_predictor_bytes)
    return wire::ModelDataAnswer::kNone;
  right_ = options_.store->reserve_predictor();
  return right_ != nullptr ? wire::ModelDataAnswer::kWants : wire::ModelDataAnswer::kNone;
}

inline void ReceiverModelData::use(std::shared_ptr<const Predictor> predictor) {
  decoded_ = std::make_shared<DecodedRows>(*predictor, DecodedRows::bytes_for(*predictor, tokens_));
  predictor_ = std::move(predictor);
}

inline Status ReceiverModelData::take(const ReceivedModelData& data, const wire::Offer& offer,
                                      const KvGeometry& geometry) {
  if (data.kind == wire::ModelDataKind::kCodebook) {
    KVFERRY_ASSIGN(auto came, wire::open_codebook(data.bytes, offer, geometry));
    options_.store->add(came);
    const std::lock_guard<std::mutex> lock(mutex_);
    codebook_ = std::move(came);
    return {};
  }
  const std::shared_ptr<const Codebook> made_for = codebook();
  if (made_for == nullptr) {
    return Error(ErrorCode::kProtocol, "MODEL_DATA of a predictor without its codebook");
  }
  KVFERRY_ASSIGN(auto came, wire::open_predictor(data.bytes, offer, geometry, *made_for));
  options_.store->add(came);
  const std::lock_guard<std::mutex> lock(mutex_);
  use(std::move(came));
  right_ = nullptr;
  return {};
}

}  // namespace kvferry
