// Client: asks a prefill node, gets its tokens from the decode node.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "kvferry/core/result.hpp"
#include "kvferry/wire/messages.hpp"

namespace kvferry {

struct ClientOptions {
  std::string prefill;                        // address of the prefill node
  std::chrono::milliseconds timeout{120000};  // for the first token, and between any two
};

struct GenerationResult {
  std::vector<TokenId> tokens;
  std::string text;
  wire::FinishReason reason = wire::FinishReason::kStop;
  std::uint32_t prompt_tokens = 0;
  std::string decode_address;
  // As this client saw it, in seconds since the request left.
  double first_token_seconds = 0;
  double second_token_seconds = 0;  // 0 when there was no second one
  double total_seconds = 0;
  // Named figures of both nodes (docs/wire-format.md, DONE).
  std::vector<std::pair<std::string, double>> prefill_report;
  std::vector<std::pair<std::string, double>> decode_report;
};

// Runs one request to its end. `on_text` is called with the
// text of every token as it arrives (empty while a character is incomplete). When `cancel`
// becomes true both nodes are told and the error is kCancelled. Errors of either node come back
// with its address in the message.
Result<GenerationResult> generate(const ClientOptions& options, const wire::Generate& request,
                                  const std::function<void(const std::string&)>& on_text,
                                  const std::atomic<bool>& cancel);

}  // namespace kvferry
