// What OFFER, FIRST_TOKEN and GENERATE share: token ids, sampling parameters, stop strings.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "kvferry/cache/source_sink.hpp"
#include "kvferry/model/sampling.hpp"
#include "kvferry/wire/messages.hpp"

namespace kvferry::wire {

template <typename Io>
void token_id(Io& io, const char* field, TokenId& id) {
  io.integer(field, id);
  io.require(id <= kMaxTokenId, field, "holds a token id above 2^31 - 1");
}

constexpr std::uint32_t kMaxRepetition = 4096;  // tokens that a repetition penalty looks at

template <typename Io>
void fields(Io& io, SamplerParams& s) {
  io.real("sampler.temperature", s.temperature);
  io.require(s.temperature >= 0.0f && s.temperature <= 100.0f, "sampler.temperature",
             "is not in [0, 100]");
  io.integer("sampler.top_k", s.top_k);
  io.real("sampler.top_p", s.top_p);
  io.require(s.top_p > 0.0f && s.top_p <= 1.0f, "sampler.top_p", "is not in (0, 1]");
  io.real("sampler.min_p", s.min_p);
  io.require(s.min_p >= 0.0f && s.min_p < 1.0f, "sampler.min_p", "is not in [0, 1)");
  io.real("sampler.repetition_penalty", s.repetition_penalty);
  io.require(s.repetition_penalty >= 0.1f && s.repetition_penalty <= 10.0f,
             "sampler.repetition_penalty", "is not in [0.1, 10]");
  io.integer("sampler.repetition_window", s.repetition_window);
  io.require(s.repetition_window <= kMaxRepetition, "sampler.repetition_window",
             "is above 4096 tokens");
  io.integer("sampler.seed", s.seed);
}

template <typename Io>
void fields(Io& io, SamplerState& s) {
  io.integer("sampler_state.draws", s.draws);
}

template <typename Io>
void stop_strings(Io& io, std::vector<std::string>& stop) {
  io.list("stop", stop, kMaxStopStrings, 4, [&](std::string& s) {
    io.bytes("stop", s, kMaxName);
    io.require(!s.empty(), "stop", "holds an empty string");
  });
}

}  // namespace kvferry::wire
