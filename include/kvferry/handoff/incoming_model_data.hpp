// IncomingModelData: the codebooks and predictors that the sources of a hand-off were asked for.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "kvferry/core/result.hpp"
#include "kvferry/wire/messages.hpp"
#include "kvferry/wire/model_data.hpp"
#include "kvferry/wire/serialize.hpp"

namespace kvferry {

// What the receiver answers to the codebook and the predictor of an offer.
struct ModelDataAnswers {
  wire::ModelDataAnswer codebook = wire::ModelDataAnswer::kNone;
  wire::ModelDataAnswer predictor = wire::ModelDataAnswer::kNone;
};

// All bytes of one, to verify and use.
struct ReceivedModelData {
  wire::ModelDataKind kind = wire::ModelDataKind::kCodebook;
  std::vector<std::uint8_t> bytes;
};

// Checks every MODEL_DATA against what was asked of its source and against what came before. The
// codebook is asked of every source, the predictor, which may be large, of the first one alone.
class IncomingModelData {
 public:
  void start(const wire::Offer& offer, const ModelDataAnswers& answers) {
    codebook_ = {offer.codebook, offer.codebook_bytes, answers.codebook};
    predictor_ = {offer.predictor, offer.predictor_bytes, answers.predictor};
  }

  // What the ACCEPT to `source` says.
  ModelDataAnswers ask(std::uint16_t source);

  // kProtocol for what was not asked for or comes behind a block or out of order, kMismatch,
  // kResourceExhausted, kMalformed.
  Status on_data(std::uint16_t source, Bytes payload);
  // A BLOCK or END, called `what`, comes: kIncomplete inside of a codebook or predictor.
  Status on_other(std::uint16_t source, const char* what);

  // The next that is complete; answered by taken().
  std::optional<ReceivedModelData> take();
  void taken(wire::ModelDataKind kind);
  // Something came and is not taken yet: no block is to be decoded before.
  bool pending() const { return out_ != 0 || !complete_.empty(); }

  // `source` was asked for the predictor, and nothing of it came.
  bool awaits_predictor(std::uint16_t source) const {
    const auto found = accounts_.find(source);
    return found != accounts_.end() && found->second.predictor && !found->second.predictor->begun();
  }
  std::uint64_t bytes() const { return bytes_; }  // that came

 private:
  struct Wanted {
    std::uint64_t id = 0;
    std::uint32_t bytes = 0;
    wire::ModelDataAnswer answer = wire::ModelDataAnswer::kNone;
  };
  // Of one source.
  struct Account {
    std::optional<wire::ModelDataAssembly> codebook;
    std::optional<wire::ModelDataAssembly> predictor;
    bool sends_blocks = false;
  };

  Wanted& wanted(wire::ModelDataKind kind) {
    return kind == wire::ModelDataKind::kCodebook ? codebook_ : predictor_;
  }

  Wanted codebook_;
  Wanted predictor_;
  bool predictor_asked_ = false;
  std::map<std::uint16_t, Account> accounts_;  // by source
  std::deque<ReceivedModelData> complete_;
  std::size_t out_ = 0;
  std::uint64_t bytes_ = 0;
};

inline ModelDataAnswers IncomingModelData::ask(std::uint16_t source) {
  using wire::ModelDataAnswer;
  using wire::ModelDataKind;
  ModelDataAnswers answers{codebook_.answer, predictor_.answer};
  if (answers.predictor == ModelDataAnswer::kWants && std::exchange(predictor_asked_, true))
    answers.predictor = ModelDataAnswer::kNone;
  Account& account = accounts_[source];
  if (answers.codebook == ModelDataAnswer::kWants)
    account.codebook.emplace(ModelDataKind::kCodebook, codebook_.id, codebook_.bytes);
  if (answers.predictor == ModelDataAnswer::kWants)
    account.predictor.emplace(ModelDataKind::kPredictor, predictor_.id, predictor_.bytes);
  return answers;
}

inline Status IncomingModelData::on_data(std::uint16_t source, Bytes payload) {
  KVFERRY_ASSIGN(const wire::ModelData data, wire::parse_model_data(payload));
  Account& account = accounts_[source];
  const bool is_codebook = data.kind == wire::ModelDataKind::kCodebook;
  auto& assembly = is_codebook ? account.codebook : account.predictor;
  const std::string name = wire::name_of(data.kind);
  if (!assembly) {
    return Error(ErrorCode::kProtocol, "MODEL_DATA of a " + name + " that was not asked for");
  }
  if (account.sends_blocks) {
    return Error(ErrorCode::kProtocol,
                 "MODEL_DATA of a " + name + " behind the first BLOCK of its source");
  }
  if (!is_codebook && account.codebook && !account.codebook->complete()) {
    return Error(ErrorCode::kProtocol, "MODEL_DATA of a predictor before its codebook is whole");
  }
  KVFERRY_TRY(assembly->add(data));
  bytes_ += data.bytes.size();
  // Another source may have sent the same.
  if (assembly->complete() && wanted(data.kind).answer == wire::ModelDataAnswer::kWants)
    complete_.push_back({data.kind, assembly->take()});
  return {};
}

inline Status IncomingModelData::on_other(std::uint16_t source, const char* what) {
  Account& account = accounts_[source];
  account.sends_blocks = true;
  if (account.codebook) KVFERRY_TRY(account.codebook->check_whole(what));
  if (account.predictor) KVFERRY_TRY(account.predictor->check_whole(what));
  return {};
}

inline std::optional<ReceivedModelData> IncomingModelData::take() {
  // A predictor is checked against its codebook, so that they are taken one after the other.
  if (complete_.empty() || out_ != 0) return std::nullopt;
  ReceivedModelData data = std::move(complete_.front());
  complete_.pop_front();
  ++out_;
  return data;
}

inline void IncomingModelData::taken(wire::ModelDataKind kind) {
  --out_;
  wanted(kind).answer = wire::ModelDataAnswer::kHas;
}

}  // namespace kvferry
