// The sampler against exact probabilities, and its promises about ties, states and ranges.
#include "kvferry/engine/sampler.hpp"

#include <cmath>
#include <cstdint>
#include <limits>
#include <map>
#include <vector>

#include <catch2/catch.hpp>

using kvferry::ErrorCode;
using kvferry::Sampler;
using kvferry::SamplerParams;
using kvferry::SamplerState;
using kvferry::TokenId;

namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

TokenId sample_once(const SamplerParams& params, const std::vector<float>& logits,
                    const std::vector<TokenId>& history = {}) {
  return Sampler::create(params).value().sample(logits, history).value();
}

// Chi-square of `draws` draws against the probabilities; degrees of freedom in `degrees`.
double chi_square(const SamplerParams& params, const std::vector<float>& logits,
                  const std::vector<double>& probabilities, int draws, int& degrees) {
  Sampler sampler = Sampler::create(params).value();
  std::vector<int> counts(logits.size(), 0);
  for (int i = 0; i < draws; ++i) ++counts[sampler.sample(logits).value()];
  double sum = 0;
  degrees = -1;
  for (std::size_t i = 0; i < logits.size(); ++i) {
    if (probabilities[i] == 0) {
      REQUIRE(counts[i] == 0);
      continue;
    }
    const double expected = probabilities[i] * draws;
    REQUIRE(expected > 5);
    sum += (counts[i] - expected) * (counts[i] - expected) / expected;
    ++degrees;
  }
  return sum;
}

}  // namespace

TEST_CASE("greedy takes the highest logit, the lowest id of equals") {
  SamplerParams params;
  CHECK(sample_once(params, {1, 3, 2}) == 1);
  CHECK(sample_once(params, {2, 5, 5, 5}) == 1);
  CHECK(sample_once(params, {-kInfinity, -7}) == 1);
  CHECK(sample_once(params, {-0.0f, 0.0f}) == 0);
  Sampler sampler = Sampler::create(params).value();
  CHECK(sampler.sample(std::vector<float>{1, 2}).value() == 1);
  CHECK(sampler.state().draws == 0);
}

TEST_CASE("draws follow the softmax of logits over temperature") {
  const std::vector<float> logits = {0.5f, -1.0f, 2.0f, 1.0f, 0.0f, -2.5f};
  for (const float temperature : {0.7f, 1.0f, 2.0f}) {
    SamplerParams params;
    params.temperature = temperature;
    params.seed = 42;
    std::vector<double> p;
    double sum = 0;
    for (const float l : logits) {
      p.push_back(std::exp(static_cast<double>(l) / static_cast<double>(temperature)));
      sum += p.back();
    }
    for (double& x : p) x /= sum;
    int degrees = 0;
    const double statistic = chi_square(params, logits, p, 40000, degrees);
    INFO("temperature " << temperature << ", chi-square " << statistic);
    CHECK(degrees == 5);
    CHECK(statistic < 20.5);  // p = 0.001
    CHECK(statistic > 0.2);   // p = 0.999
  }
}

TEST_CASE("top-k, top-p and min-p leave the tokens that they should") {
  // Probabilities 0.4, 0.3, 0.2, 0.1 for ids 3, 1, 0, 2.
  const std::vector<float> logits = {std::log(0.2f), std::log(0.3f), std::log(0.1f),
                                     std::log(0.4f)};
  SamplerParams params;
  params.temperature = 1.0f;
  params.seed = 7;
  std::vector<double> expected;
  SECTION("top-k") {
    params.top_k = 2;
    expected = {0, 0.3 / 0.7, 0, 0.4 / 0.7};
  }
  SECTION("top-k above the vocabulary") {
    params.top_k = 100;
    expected = {0.2, 0.3, 0.1, 0.4};
  }
  SECTION("top-p takes the token that reaches it") {
    params.top_p = 0.75f;
    expected = {0.2 / 0.9, 0.3 / 0.9, 0, 0.4 / 0.9};
  }
  SECTION("a tiny top-p leaves one") {
    params.top_p = 1e-30f;
    expected = {0, 0, 0, 1};
  }
  SECTION("min-p") {
    params.min_p = 0.6f;  // of 0.4
    expected = {0, 0.3 / 0.7, 0, 0.4 / 0.7};
  }
  SECTION("top-k before top-p") {
    params.top_k = 2;
    params.top_p = 0.55f;  // 0.4 / 0.7 = 0.57 reaches it
    expected = {0, 0, 0, 1};
  }
  int degrees = 0;
  const double statistic = chi_square(params, logits, expected, 20000, degrees);
  INFO("chi-square " << statistic << ", degrees of freedom " << degrees);
  CHECK(statistic < 16.3);  // p = 0.001 for 3
}

TEST_CASE("equal logits at the border of top-k go to the lowest ids") {
  SamplerParams params;
  params.temperature = 1.0f;
  params.top_k = 2;
  Sampler sampler = Sampler::create(params).value();
  for (int i = 0; i < 200; ++i) CHECK(sampler.sample(std::vector<float>{1, 1, 1, 1}).value() < 2);
}

TEST_CASE("the repetition penalty sees the last tokens of the window, each once") {
  SamplerParams params;
  params.repetition_penalty = 2.0f;
  params.repetition_window = 2;
  CHECK(sample_once(params, {4, 3, 1}) == 0);
  CHECK(sample_once(params, {4, 3, 1}, {0}) == 1);
  CHECK(sample_once(params, {4, 3, 1}, {0, 2, 2}) == 0);     // out of the window
  CHECK(sample_once(params, {4, 1.5f, 1}, {0, 0}) == 0);     // 2, not 1
  CHECK(sample_once(params, {-1, -1.5f, -9}, {2, 0}) == 1);  // negative: -2
  params.repetition_window = 0;
  CHECK(sample_once(params, {4, 3, 1}, {0}) == 0);
  params.repetition_window = 8;
  const auto wrong =
      Sampler::create(params).value().sample(std::vector<float>{1, 2}, std::vector<TokenId>{2});
  REQUIRE(!wrong.ok());
  CHECK(wrong.error().code == ErrorCode::kInvalidArgument);
}

TEST_CASE("a saved state continues identically") {
  SamplerParams params;
  params.temperature = 0.8f;
  params.top_k = 20;
  params.top_p = 0.9f;
  params.seed = 0x123456789abcdefULL;
  const auto logits_of = [](int step) {
    std::vector<float> logits;
    std::uint32_t x = static_cast<std::uint32_t>(step) * 747796405u + 1;
    for (int i = 0; i < 100; ++i) {
      x = x * 1664525u + 1013904223u;
      logits.push_back(static_cast<float>(x >> 16) / 8192.0f - 4.0f);
    }
    return logits;
  };
  Sampler whole = Sampler::create(params).value();
  Sampler first = Sampler::create(params).value();
  std::vector<TokenId> expected;
  for (int i = 0; i < 64; ++i) expected.push_back(whole.sample(logits_of(i)).value());
  std::vector<TokenId> tokens;
  for (int i = 0; i < 23; ++i) tokens.push_back(first.sample(logits_of(i)).value());
  SamplerState state = first.state();
  CHECK(state.draws == 23);
  Sampler second = Sampler::create(params, state).value();
  for (int i = 23; i < 64; ++i) tokens.push_back(second.sample(logits_of(i)).value());
  CHECK(tokens == expected);

  params.seed += 1;
  Sampler other = Sampler::create(params).value();
  int same = 0;
  for (int i = 0; i < 64; ++i) same += other.sample(logits_of(i)).value() == expected[i] ? 1 : 0;
  CHECK(same < 40);
}

TEST_CASE("the random numbers are fixed for all machines and versions") {
  SamplerParams params;
  params.temperature = 1.0f;
  params.seed = 1;
  Sampler sampler = Sampler::create(params).value();
  const std::vector<float> uniform(1000, 0.0f);
  std::vector<TokenId> drawn;
  for (int i = 0; i < 6; ++i) drawn.push_back(sampler.sample(uniform).value());
  CHECK(drawn == std::vector<TokenId>{368, 943, 45, 777, 219, 774});
}

TEST_CASE("logits that cannot be sampled are refused and use no random number") {
  SamplerParams params;
  params.temperature = 1.0f;
  Sampler sampler = Sampler::create(params).value();
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const std::vector<std::vector<float>> bad = {
      {}, {1, nan, 2}, {kInfinity, 0}, {-kInfinity, -kInfinity}};
  for (const std::vector<float>& logits : bad) {
    const auto result = sampler.sample(logits);
    REQUIRE(!result.ok());
    CHECK(result.error().code == ErrorCode::kInvalidArgument);
  }
  CHECK(sampler.state().draws == 0);
  // -infinity forbids a token, at any temperature.
  params.temperature = kvferry::kMaxTemperature;
  sampler = Sampler::create(params).value();
  for (int i = 0; i < 100; ++i) {
    CHECK(sampler.sample(std::vector<float>{-kInfinity, 1, -kInfinity}).value() == 1);
  }
  // Extreme but finite values are fine.
  params.temperature = std::numeric_limits<float>::denorm_min();
  const float huge = std::numeric_limits<float>::max();
  CHECK(sample_once(params, {-huge, huge, 0}) == 1);
}

TEST_CASE("parameters out of range are refused by name") {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const auto refused = [](SamplerParams params, const std::string& name) {
    const auto status = kvferry::validate(params);
    INFO(name);
    REQUIRE(!status.ok());
    CHECK(status.error().code == ErrorCode::kInvalidArgument);
    CHECK(status.error().message.find(name) != std::string::npos);
    CHECK(!Sampler::create(params).ok());
  };
  for (const float value : {-0.1f, 100.5f, nan, kInfinity}) {
    SamplerParams params;
    params.temperature = value;
    refused(params, "temperature");
  }
  for (const float value : {0.0f, 1.1f, -1.0f, nan}) {
    SamplerParams params;
    params.top_p = value;
    refused(params, "top_p");
  }
  for (const float value : {-0.1f, 1.0f, nan}) {
    SamplerParams params;
    params.min_p = value;
    refused(params, "min_p");
  }
  for (const float value : {0.0f, 10.5f, nan}) {
    SamplerParams params;
    params.repetition_penalty = value;
    refused(params, "repetition_penalty");
  }
  SamplerParams params;
  params.repetition_window = kvferry::kMaxRepetitionWindow + 1;
  refused(params, "repetition_window");
  CHECK(kvferry::validate(SamplerParams()).ok());
}

TEST_CASE("the example of docs/wire-format.md, section 4.8") {
  SamplerParams params;
  params.seed = 42;
  params.temperature = 1;
  // Of 1024 equal tokens, random number u draws token floor(u * 1024).
  const std::vector<float> equal(1024, 0.5f);
  Sampler uniform = Sampler::create(params).value();
  for (const double u : {0.34329192209867343, 0.9557467261317436, 0.48634953628166855})
    CHECK(uniform.sample(equal).value() == static_cast<TokenId>(u * 1024));

  params.temperature = 0.75f;
  params.top_k = 6;
  params.top_p = 0.9375f;
  params.min_p = 0.0625f;
  params.repetition_penalty = 1.25f;
  params.repetition_window = 4;
  SamplerState state;
  state.draws = 3;
  Sampler sampler = Sampler::create(params, state).value();
  const std::vector<float> logits = {1.5f, 2, -0.5f, 2, 0.25f, 1, -3, 1.75f};
  std::vector<TokenId> tokens = {3, 6, 0, 1, 1, 7};
  const std::size_t history = tokens.size();
  for (int i = 0; i < 12; ++i) tokens.push_back(sampler.sample(logits, tokens).value());
  tokens.erase(tokens.begin(), tokens.begin() + static_cast<std::ptrdiff_t>(history));
  CHECK(tokens == std::vector<TokenId>{3, 0, 1, 1, 3, 7, 7, 0, 1, 3, 3, 5});
  CHECK(sampler.state().draws == 15);
}
