// The first token: sampled where the prompt was computed, and what goes with it.
#pragma once

#include <cstddef>
#include <vector>

#include "kvferry/core/result.hpp"
#include "kvferry/core/span.hpp"
#include "kvferry/engine/logits.hpp"
#include "kvferry/engine/sampler.hpp"
#include "kvferry/wire/messages.hpp"

namespace kvferry {

// The `count` largest logits, largest first, the lower id first among equals.
inline std::vector<wire::TopLogit> top_logits(Span<const float> logits, std::size_t count) {
  std::vector<wire::TopLogit> top;
  for (const TokenId token : top_tokens(logits, count)) top.push_back({token, logits[token]});
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
