// What a prefill says of its cache.
#pragma once

#include <vector>

#include "kvferry/codec/profile.hpp"
#include "kvferry/node/loaded_model.hpp"
#include "kvferry/wire/session.hpp"

namespace kvferry {

// An offer of the whole cache of `prompt`, from one source, without a decode order.
inline wire::Offer make_offer(const LoadedModel& model, const std::vector<TokenId>& prompt,
                              Profile profile) {
  return wire::session_offer(model.identity, model.pool->geometry(), prompt, profile,
                             model.origin().provenance);
}

}  // namespace kvferry
