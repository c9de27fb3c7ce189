// What a prefill says of its cache: the offer, and the first token.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <numeric>
#include <utility>
#include <vector>

#include "kvferry/codec/profile.hpp"
#include "kvferry/core/result.hpp"
#include "kvferry/core/span.hpp"
#include "kvferry/engine/sampler.hpp"
#include "kvferry/node/loaded_model.hpp"
#include "kvferry/wire/session.hpp"

namespace kvferry {

// An offer of the whole cache of `prompt`, from one source, without a decode order.
inline wire::Offer make_offer(const LoadedModel& model, const std::vector<TokenId>& prompt,
                              Profile profile) {
  wire::Provenance provenance;
  provenance.path = model.engine->path();
  provenance.weight_format = model.weight_format;
  return wire::session_offer(model.identity, model.pool->geometry(), prompt, profile,
                             std::move(provenance));
}

// ln of the sum of exp(logits), in double.
inline double log_sum_exp(Span<const float> logits) {
  const double largest = *std::max_element(logits.begin(), logits.end());
  double sum = 0;
  for (const float l : logits) sum += std::exp(static_cast<double>(l) - largest);
  return largest + std::log(sum);
}

// The `count` largest logits, largest first, the lower id first among equals.
inline std::vector<wire::TopLogit> top_logits(Span<const float> logits, std::size_t count) {
  std::vector<TokenId> ids(logits.size());
  std::iota(ids.begin(), ids.end(), TokenId{0});
  count = std::min(count, ids.size());
  std::partial_sort(
      ids.begin(), ids.begin() + static_cast<std::ptrdiff_t>(count), ids.end(),
      [&](TokenId a, TokenId b) { return logits[a] != logits[b] ? logits[a] > logits[b] : a < b; });
  std::vector<wire::TopLogit> top;
  for (std::size_t i = 0; i < count; ++i) {
    wire::TopLogit entry;
    entry.token = ids[i];
    entry.logit = logits[ids[i]];
    top.push_back(entry);
  }
  return top;
}

// Samples the token that follows the prompt, with what the receiver needs to go on from there.
inline Result<wire::FirstToken> sample_first(Sampler& sampler, Span<const float> logits,
                                             Span<const TokenId> prompt) {
  wire::FirstToken first;
  KVFERRY_ASSIGN(first.token, sampler.sample(logits, prompt));
  first.sampler_state = sampler.state();
  first.log_sum_exp = static_cast<float>(log_sum_exp(logits));
  first.top = top_logits(logits, 10);
  return first;
}

}  // namespace kvferry
