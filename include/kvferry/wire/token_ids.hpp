// check_token_ids: whether the model has the token ids of a message, which its parser cannot know.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "kvferry/core/result.hpp"
#include "kvferry/wire/messages.hpp"

namespace kvferry::wire {

// kMalformed names the first id of OFFER.tokens that is not below the vocabulary of the offer's
// identity.
inline Status check_token_ids(const Offer& offer) {
  const std::uint32_t vocab = offer.identity.vocab;
  for (std::size_t i = 0; i < offer.tokens.size(); ++i) {
    if (offer.tokens[i] < vocab) continue;
    return Error(ErrorCode::kMalformed, "OFFER.tokens[" + std::to_string(i) + "] is id " +
                                            std::to_string(offer.tokens[i]) + "; the model has " +
                                            std::to_string(vocab) + " tokens");
  }
  return {};
}

// The same of the token and of the ids in `top`.
inline Status check_token_ids(const FirstToken& first, std::uint32_t vocab) {
  const auto check = [vocab](const std::string& field, TokenId id) -> Status {
    if (id < vocab) return {};
    return Error(ErrorCode::kMalformed, "FIRST_TOKEN." + field + " is id " + std::to_string(id) +
                                            "; the model has " + std::to_string(vocab) + " tokens");
  };
  KVFERRY_TRY(check("token", first.token));
  for (std::size_t i = 0; i < first.top.size(); ++i)
    KVFERRY_TRY(check("top[" + std::to_string(i) + "]", first.top[i].token));
  return {};
}

}  // namespace kvferry::wire
