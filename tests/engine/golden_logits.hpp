// Golden logits: prompts with the tokens that a model of known arithmetic chose, and its logits.
#pragma once

#include <cmath>
#include <cstddef>
#include <fstream>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

#include "kvferry/cache/source_sink.hpp"
#include "kvferry/core/span.hpp"

namespace kvferry_test {

struct GoldenStep {
  std::vector<std::pair<std::size_t, float>> top;  // (id, logit), the largest first
  double log_sum_exp = 0.0;
};

struct GoldenPrompt {
  std::string name;
  std::vector<kvferry::TokenId> prompt;
  std::vector<kvferry::TokenId> continuation;  // chosen after the prompt, one by one
  std::vector<GoldenStep> steps;               // steps[k] chose continuation[k]

  // What a teacher-forced run takes in at once: the logits of its last steps.size() tokens are
  // those of the steps.
  std::vector<kvferry::TokenId> forced() const {
    std::vector<kvferry::TokenId> tokens = prompt;
    tokens.insert(tokens.end(), continuation.begin(), continuation.end() - 1);
    return tokens;
  }
};

inline std::vector<GoldenPrompt> load_golden(const std::string& path) {
  std::ifstream file(path);
  if (!file) throw std::runtime_error("cannot open " + path);
  std::vector<GoldenPrompt> prompts;
  const nlohmann::json json = nlohmann::json::parse(file);
  for (const nlohmann::json& p : json.at("prompts")) {
    GoldenPrompt prompt;
    prompt.name = p.at("name");
    prompt.prompt = p.at("token_ids").get<std::vector<kvferry::TokenId>>();
    prompt.continuation = p.at("greedy_ids").get<std::vector<kvferry::TokenId>>();
    for (const nlohmann::json& s : p.at("steps")) {
      GoldenStep step;
      step.top = s.at("top").get<std::vector<std::pair<std::size_t, float>>>();
      step.log_sum_exp = s.at("logsumexp");
      prompt.steps.push_back(std::move(step));
    }
    prompts.push_back(std::move(prompt));
  }
  return prompts;
}

// How far a run's logits are from a golden step.
struct GoldenError {
  float largest = 0.0f;      // over listed logits and log-sum-exp; NaN if one is
  std::size_t argmaxes = 0;  // that differ

  void add(const GoldenStep& step, kvferry::Span<const float> logits) {
    double sum = 0.0;
    std::size_t best = 0;
    for (std::size_t i = 0; i < logits.size(); ++i) {
      sum += std::exp(static_cast<double>(logits[i] - step.top[0].second));
      if (logits[i] > logits[best]) best = i;
    }
    const double log_sum_exp = static_cast<double>(step.top[0].second) + std::log(sum);
    take(static_cast<float>(std::fabs(log_sum_exp - step.log_sum_exp)));
    for (const auto& [id, logit] : step.top) take(std::fabs(logits[id] - logit));
    argmaxes += best != step.top[0].first ? 1 : 0;
  }

 private:
  void take(float error) {
    if (!(error <= largest)) largest = error;
  }
};

}  // namespace kvferry_test
