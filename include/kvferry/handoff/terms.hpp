// HandoffTerms: what the receiver of an offer answers, and whether offer, cache and answer fit.
#pragma once

#include <algorithm>
#include <cstdint>
#include <string>

#include "kvferry/cache/source_sink.hpp"
#include "kvferry/codec/profile.hpp"
#include "kvferry/core/result.hpp"
#include "kvferry/model/identity.hpp"
#include "kvferry/wire/messages.hpp"

namespace kvferry {

struct HandoffTerms {
  std::uint32_t held_prefix = 0;  // tokens [0, held_prefix) are here and need not be sent
  std::uint64_t generation = 0;   // of the sequence that the commit will extend
  std::uint32_t base_length = 0;  // tokens that it has
};

// First token that travels.
inline std::uint32_t first_sent(const wire::Offer& offer, std::uint32_t held_prefix) {
  return std::max(offer.replace_begin, held_prefix);
}

// Bit per codec profile that this build decodes, as ACCEPT says it.
inline std::uint64_t decodable_profiles() {
  std::uint64_t profiles = 0;
  for (std::uint8_t p = 0; p <= static_cast<std::uint8_t>(Profile::kQ4H); ++p) {
    if (is_available(static_cast<Profile>(p))) profiles |= std::uint64_t{1} << p;
  }
  return profiles;
}

// kUnsupported unless this build decodes `profile`, a number from the wire.
inline Status check_profile(std::uint8_t profile) {
  if (is_available(static_cast<Profile>(profile))) return {};
  return Error(ErrorCode::kUnsupported, "codec profile " + std::to_string(profile) + " (" +
                                            name_of(static_cast<Profile>(profile)) +
                                            ") is not one that this end decodes");
}

// kMismatch when a cache of `sink`'s shape cannot take what is offered: the field is named. The
// element types may differ; the codec converts.
inline Status compare_shape(const KvGeometry& sink, const wire::Offer& offer) {
  struct Field {
    const char* name;
    std::uint32_t ours;
    std::uint32_t theirs;
  };
  for (const Field& f :
       {Field{"first layer", sink.first_layer, 0}, Field{"layers", sink.layers, offer.layers},
        Field{"kv_heads", sink.kv_heads, offer.kv_heads},
        Field{"head_dim", sink.head_dim, offer.head_dim}}) {
    if (f.ours != f.theirs) {
      return Error(ErrorCode::kMismatch, "the caches differ in " + std::string(f.name) + ": " +
                                             std::to_string(f.ours) + " here, " +
                                             std::to_string(f.theirs) + " in the offer");
    }
  }
  return detail::compare_rope(sink.rope, offer.rope);
}

// Whether this end can send what it offered on the terms of the answer. kProtocol when the answer
// contradicts the offer or itself, kMismatch when it leaves a hole before what is sent,
// kUnsupported when the receiver cannot decode it.
inline Status check_accept(const wire::Offer& offer, const wire::Accept& accept) {
  if (accept.held_prefix > offer.tokens.size()) {
    return Error(ErrorCode::kProtocol, "ACCEPT holds a prefix of " +
                                           std::to_string(accept.held_prefix) + " of " +
                                           std::to_string(offer.tokens.size()) + " tokens");
  }
  const std::uint32_t begin = first_sent(offer, accept.held_prefix);
  if (accept.base_length < begin) {
    return Error(ErrorCode::kMismatch,
                 "the receiver's sequence has " + std::to_string(accept.base_length) +
                     " tokens; what was offered begins at token " + std::to_string(begin));
  }
  using wire::ModelDataAnswer;
  if ((offer.codebook == 0 && accept.codebook != ModelDataAnswer::kNone) ||
      (offer.predictor == 0 && accept.predictor != ModelDataAnswer::kNone)) {
    return Error(ErrorCode::kProtocol,
                 "ACCEPT answers a codebook or predictor that the offer "
                 "does not name");
  }
  if (offer.profile >= 64 || (accept.profiles >> offer.profile & 1u) == 0) {
    return Error(ErrorCode::kUnsupported,
                 "the receiver does not decode profile " +
                     std::string(name_of(static_cast<Profile>(offer.profile))));
  }
  return {};
}

// The import that `terms` lead to. kInvalidArgument when they contradict the offer or themselves.
inline Result<KvImportPlan> plan_import(const wire::Offer& offer, const HandoffTerms& terms) {
  const auto end = static_cast<std::uint32_t>(offer.tokens.size());
  const std::uint32_t begin = first_sent(offer, terms.held_prefix);
  if (terms.held_prefix > end || begin > terms.base_length) {
    return Error(ErrorCode::kInvalidArgument,
                 "hand-off: a sequence of " + std::to_string(terms.base_length) +
                     " tokens with a held prefix of " + std::to_string(terms.held_prefix) +
                     " cannot take tokens [" + std::to_string(begin) + ", " + std::to_string(end) +
                     ")");
  }
  KvImportPlan plan;
  plan.generation = terms.generation;
  plan.base_length = terms.base_length;
  plan.begin = begin;
  plan.end = end;
  plan.tokens.assign(offer.tokens.begin() + begin, offer.tokens.end());
  return plan;
}

}  // namespace kvferry
