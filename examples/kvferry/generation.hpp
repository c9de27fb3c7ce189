// One generation in one process, with or without a hand-off between prefill and decode.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "kvferry/codec/profile.hpp"
#include "kvferry/node/in_process_handoff.hpp"
#include "kvferry/node/loaded_model.hpp"

namespace kvferry::cli {

constexpr std::uint32_t kDefaultMaxTokens = 256;

struct GenerationRequest {
  std::vector<TokenId> prompt;
  std::vector<TokenId> forced;   // the continuation begins with these, whatever the logits say
  std::uint32_t max_tokens = 0;  // 0 = as many as context and cache have room for
  SamplerParams sampler;
  bool ignore_eos = false;
  std::uint32_t chunk = kDefaultChunkTokens;
  std::optional<Profile> handoff;  // the profile that the cache travels with; empty = none
  bool token_classes = true;       // in the hand-off, for the profiles that have them
};

struct GenerationTiming {
  double prefill_seconds = 0;
  double handoff_seconds = 0;  // from the end of the prefill to the commit
  double decode_seconds = 0;
};

struct Generation {
  std::vector<TokenId> tokens;
  std::shared_ptr<KvSequence> prefilled;  // the prompt, as it was computed
  std::shared_ptr<KvSequence> sequence;   // the same, or what was handed over; grows as it decodes
  GenerationTiming timing;
  std::optional<InProcessHandoff::Outcome> handoff;
};

// Prefills `prompt` into a new sequence and hands it over if a profile is given; the logits that
// follow the prompt go to `logits` [vocab]. kInvalidArgument when the cache has no room for prompt
// and answer.
Result<Generation> prefill(const LoadedModel& model, const GenerationRequest& request,
                           std::vector<float>& logits, const std::atomic<bool>& cancel);

// Continues after prefill(): `on_step` gets each token with the logits that chose it, before the
// next is computed; its error ends the generation.
using OnStep = std::function<Status(TokenId token, Span<const float> logits)>;
Status decode(const LoadedModel& model, const GenerationRequest& request,
              std::vector<float>& logits, Generation& generation, const OnStep& on_step,
              const std::atomic<bool>& cancel);

}  // namespace kvferry::cli
