// SharedOffer: the one offer that every source of a hand-off makes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <set>
#include <string>
#include <utility>

#include "kvferry/core/result.hpp"
#include "kvferry/handoff/terms.hpp"
#include "kvferry/model/identity.hpp"
#include "kvferry/wire/frame.hpp"
#include "kvferry/wire/serialize.hpp"
#include "kvferry/wire/token_ids.hpp"

namespace kvferry {

// The first OFFER that comes says what the hand-off is; the other sources have to say the same.
class SharedOffer {
 public:
  // The first OFFER, well-formed, of the model `identity` with token ids that it has, and of a
  // profile that this build decodes; else kMalformed, kMismatch or kUnsupported.
  Status take_first(const wire::Frame& frame, const ModelIdentity& identity) {
    KVFERRY_ASSIGN(wire::Offer offer, wire::parse_offer(frame.payload));
    for (const wire::CoveragePart& part : offer.coverage) sources_.insert(part.source);
    offer_ = std::move(offer);
    hash_ = frame.header.payload_hash;
    epoch_ = frame.header.address.epoch;
    KVFERRY_TRY(compare(identity, offer_->identity));
    KVFERRY_TRY(wire::check_token_ids(*offer_));
    return check_profile(offer_->profile);
  }

  // The OFFER of another source: kProtocol when it belongs to another attempt, kMismatch when it is
  // not the same offer.
  Status check_same(const wire::Frame& frame) const {
    if (frame.header.address.epoch != epoch_) {
      return Error(ErrorCode::kProtocol,
                   "OFFER of attempt " + std::to_string(frame.header.address.epoch) +
                       ", the hand-off is at attempt " + std::to_string(epoch_));
    }
    if (frame.header.payload_hash != hash_) {
      return Error(ErrorCode::kMismatch, "the sources of one hand-off sent different offers");
    }
    return {};
  }

  // kProtocol unless something is declared of `source`.
  Status check_source(std::uint16_t source) const {
    if (sources_.count(source) != 0) return {};
    return Error(ErrorCode::kProtocol, "OFFER from source " + std::to_string(source) +
                                           ", for which its coverage has no part");
  }

  // What follows only after take_first().
  const wire::Offer& get() const { return *offer_; }
  std::uint32_t epoch() const { return epoch_; }
  // How many sources it declares; not 0.
  std::size_t sources() const { return sources_.size(); }

 private:
  std::optional<wire::Offer> offer_;
  std::uint64_t hash_ = 0;
  std::uint32_t epoch_ = 0;
  std::set<std::uint16_t> sources_;
};

}  // namespace kvferry
