// Sampler: chooses the next token from logits, the same one on every machine.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "kvferry/cache/source_sink.hpp"
#include "kvferry/core/result.hpp"
#include "kvferry/core/span.hpp"
#include "kvferry/model/sampling.hpp"

namespace kvferry {

constexpr float kMaxTemperature = 100.0f;
constexpr float kMinRepetitionPenalty = 0.1f;
constexpr float kMaxRepetitionPenalty = 10.0f;
constexpr std::uint32_t kMaxRepetitionWindow = 4096;

// kInvalidArgument names the parameter that is out of its range (model/sampling.hpp) or not finite.
Status validate(const SamplerParams& params);

// Applies, in this order: repetition penalty, top-k, top-p, min-p, temperature, and a draw. The
// penalty divides positive logits and multiplies negative ones of every token that occurs among the
// last `repetition_window` of the history. Ties in logits are ordered by id, lowest first.
//
// Random numbers are a function of (seed, draw number) alone, and probabilities are computed in
// double from additions, multiplications and divisions in a fixed order (no math library), so the
// same logits, history, params and state give the same token on every IEEE 754 machine.
class Sampler {
 public:
  static Result<Sampler> create(const SamplerParams& params, const SamplerState& state = {});

  // `logits` [vocab]; `history` the tokens of the sequence so far, oldest first (only the last
  // repetition_window are looked at). Every call with a temperature above 0 uses one random number.
  // kInvalidArgument, and no change of state, when logits are empty, hold a NaN or +infinity, or
  // are all -infinity, or the history holds an id outside of the vocabulary; -infinity means
  // "never this token".
  Result<TokenId> sample(Span<const float> logits, Span<const TokenId> history = {});

  const SamplerParams& params() const { return params_; }
  // What another machine needs, beside params and tokens, to continue identically.
  const SamplerState& state() const { return state_; }

 private:
  struct Candidate {
    double logit;
    double weight;  // exp(logit - highest), before or after temperature
    TokenId token;
  };

  Sampler(const SamplerParams& params, const SamplerState& state)
      : params_(params), state_(state) {}

  Status collect(Span<const float> logits);
  Status penalise(Span<const TokenId> history);
  void truncate();
  TokenId draw();

  SamplerParams params_;
  SamplerState state_;
  std::vector<Candidate> candidates_;  // scratch, kept between calls
};

}  // namespace kvferry
