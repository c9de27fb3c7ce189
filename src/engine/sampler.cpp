#include "kvferry/engine/sampler.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <string>

namespace kvferry {
namespace {

// exp(x) for x <= 0. The math library's exp differs between systems in the last bit, which can
// change a token; this one uses exactly rounded operations only. Relative error below 1e-15.
double exp_of_negative(double x) {
  if (x < -700.0) return 0.0;
  constexpr double kLog2E = 1.4426950408889634;
  constexpr double kLn2High = 0.69314718036912382;  // 33 bits, so that k * kLn2High is exact
  constexpr double kLn2Low = 1.9082149292705877e-10;
  const double k = std::floor(x * kLog2E + 0.5);
  const double r = (x - k * kLn2High) - k * kLn2Low;  // |r| <= ln(2) / 2
  double sum = 1.0;
  for (int n = 14; n > 0; --n) sum = 1.0 + r * sum / n;  // Taylor series, innermost term first
  const std::uint64_t bits = static_cast<std::uint64_t>(static_cast<std::int64_t>(k) + 1023) << 52;
  double power;  // 2^k, normal because x >= -700
  std::memcpy(&power, &bits, sizeof power);
  return sum * power;
}

// The finaliser of SplitMix64 (Steele, Lea, Flood: Fast splittable pseudorandom number generators).
std::uint64_t mix(std::uint64_t z) {
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
  return z ^ (z >> 31);
}

// Random number `n` of a seed, in [0, 1) with 53 bits. The seed is mixed first, so that
// neighbouring seeds are not shifted copies of one sequence.
double uniform(std::uint64_t seed, std::uint64_t n) {
  constexpr std::uint64_t kStep = 0x9e3779b97f4a7c15u;
  const std::uint64_t bits = mix(mix(seed + kStep) + (n + 1) * kStep);
  return static_cast<double>(bits >> 11) * (1.0 / 9007199254740992.0);
}

Error invalid(const std::string& message) {
  return Error(ErrorCode::kInvalidArgument, message);
}

Status check_range(const char* name, float value, float lowest, float highest) {
  if (value >= lowest && value <= highest) return {};
  return invalid("sampler " + std::string(name) + " " + std::to_string(value) +
                 " is not in the range from " + std::to_string(lowest) + " to " +
                 std::to_string(highest));
}

}  // namespace

Status validate(const SamplerParams& params) {
  KVFERRY_TRY(check_range("temperature", params.temperature, 0.0f, kMaxTemperature));
  KVFERRY_TRY(check_range("top_p", params.top_p, std::numeric_limits<float>::denorm_min(), 1.0f));
  KVFERRY_TRY(check_range("min_p", params.min_p, 0.0f, 1.0f));
  if (params.min_p == 1.0f) return invalid("sampler min_p 1 is not below 1");
  KVFERRY_TRY(check_range("repetition_penalty", params.repetition_penalty, kMinRepetitionPenalty,
                          kMaxRepetitionPenalty));
  if (params.repetition_window > kMaxRepetitionWindow) {
    return invalid("sampler repetition_window " + std::to_string(params.repetition_window) +
                   " is above " + std::to_string(kMaxRepetitionWindow));
  }
  return {};
}

Result<Sampler> Sampler::create(const SamplerParams& params, const SamplerState& state) {
  KVFERRY_TRY(validate(params));
  return Sampler(params, state);
}

Result<TokenId> Sampler::sample(Span<const float> logits, Span<const TokenId> history) {
  KVFERRY_TRY(collect(logits));
  KVFERRY_TRY(penalise(history));
  if (params_.temperature == 0.0f) {
    // The first of equals is the one with the lowest id.
    return std::max_element(
               candidates_.begin(), candidates_.end(),
               [](const Candidate& a, const Candidate& b) { return a.logit < b.logit; })
        ->token;
  }
  truncate();
  return draw();
}

// All tokens, by id.
Status Sampler::collect(Span<const float> logits) {
  if (logits.empty()) return invalid("no logits to sample from");
  candidates_.clear();
  candidates_.reserve(logits.size());
  bool any = false;
  for (std::size_t i = 0; i < logits.size(); ++i) {
    const float logit = logits[i];
    if (std::isnan(logit) || logit == std::numeric_limits<float>::infinity()) {
      return invalid("logit of token " + std::to_string(i) +
                     (std::isnan(logit) ? " is not a number" : " is infinite"));
    }
    any = any || logit != -std::numeric_limits<float>::infinity();
    candidates_.push_back({static_cast<double>(logit), 0.0, static_cast<TokenId>(i)});
  }
  if (!any) return invalid("every logit is -infinity: no token is allowed");
  return {};
}

Status Sampler::penalise(Span<const TokenId> history) {
  if (params_.repetition_penalty == 1.0f) return {};
  const std::size_t window = std::min<std::size_t>(params_.repetition_window, history.size());
  const Span<const TokenId> recent = history.subspan(history.size() - window);
  std::vector<TokenId> tokens(recent.begin(), recent.end());
  std::sort(tokens.begin(), tokens.end());
  tokens.erase(std::unique(tokens.begin(), tokens.end()), tokens.end());
  const double penalty = static_cast<double>(params_.repetition_penalty);
  for (const TokenId token : tokens) {
    if (token >= candidates_.size()) {
      return invalid("token " + std::to_string(token) + " of the history has no logit; there are " +
                     std::to_string(candidates_.size()));
    }
    double& logit = candidates_[token].logit;
    logit = logit > 0 ? logit / penalty : logit * penalty;
  }
  return {};
}

// Leaves the tokens that top-k, top-p and min-p allow, with weights at temperature 1.
void Sampler::truncate() {
  const auto before = [](const Candidate& a, const Candidate& b) {
    return a.logit != b.logit ? a.logit > b.logit : a.token < b.token;
  };
  const bool limited = params_.top_k > 0 && params_.top_k < candidates_.size();
  if (limited) {
    const auto end = candidates_.begin() + static_cast<std::ptrdiff_t>(params_.top_k);
    std::partial_sort(candidates_.begin(), end, candidates_.end(), before);
    candidates_.erase(end, candidates_.end());
  } else if (params_.top_p < 1.0f) {
    std::sort(candidates_.begin(), candidates_.end(), before);
  }
  double highest = candidates_[0].logit;
  for (const Candidate& c : candidates_) highest = std::max(highest, c.logit);
  double sum = 0;
  for (Candidate& c : candidates_) {
    c.logit -= highest;
    c.weight = exp_of_negative(c.logit);
    sum += c.weight;
  }
  if (params_.top_p < 1.0f) {
    const double wanted = static_cast<double>(params_.top_p) * sum;
    double reached = 0;
    std::size_t kept = 0;
    while (kept < candidates_.size() && reached < wanted) reached += candidates_[kept++].weight;
    candidates_.resize(std::max<std::size_t>(kept, 1));
  }
  if (params_.min_p > 0.0f) {
    const double least = static_cast<double>(params_.min_p);
    const auto unlikely = [least](const Candidate& c) { return c.weight < least; };
    candidates_.erase(std::remove_if(candidates_.begin(), candidates_.end(), unlikely),
                      candidates_.end());
  }
}

TokenId Sampler::draw() {
  const double temperature = static_cast<double>(params_.temperature);
  double sum = 0;
  for (Candidate& c : candidates_) {
    c.weight = exp_of_negative(c.logit / temperature);
    sum += c.weight;
  }
  const double target = uniform(params_.seed, state_.draws) * sum;
  ++state_.draws;
  double reached = 0;
  TokenId last = candidates_[0].token;
  for (const Candidate& c : candidates_) {
    if (c.weight == 0.0) continue;
    reached += c.weight;
    last = c.token;
    if (reached > target) break;
  }
  return last;
}

}  // namespace kvferry
