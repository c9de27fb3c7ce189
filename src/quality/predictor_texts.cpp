#include "predictor_texts.hpp"

#include <algorithm>
#include <utility>

#include "kvferry/engine/sampler.hpp"

namespace kvferry {
namespace {

constexpr std::uint32_t kLeastTokens = 64;
// Tokens of the text that a written piece begins with.
constexpr std::uint32_t kStartTokens = 24;
// Pieces that are written together, one step of the model for all.
constexpr std::size_t kTogether = 16;

// A piece under way.
struct Writing {
  std::shared_ptr<KvSequence> sequence;
  std::vector<TokenId> tokens;
  Sampler sampler;
};

class Writer {
 public:
  Writer(Engine& engine, std::uint32_t length, const std::atomic<bool>* cancel)
      : engine_(engine), length_(length), cancel_(cancel) {}

  // Pieces that begin with `starts`.
  Result<std::vector<std::vector<TokenId>>> write(std::vector<std::vector<TokenId>> starts,
                                                  std::uint64_t seed) {
    const std::size_t vocab = engine_.config().vocab;
    KVFERRY_ASSIGN(const auto pool,
                   KvPool::create(engine_.geometry(), static_cast<std::uint32_t>(starts.size()) *
                                                          KvPool::blocks_for(length_)));
    std::vector<Writing> writings;
    std::vector<float> logits(starts.size() * vocab);
    for (std::size_t i = 0; i < starts.size(); ++i) {
      SamplerParams params;
      params.temperature = 1.0f;
      params.seed = seed + i;
      KVFERRY_ASSIGN(Sampler sampler, Sampler::create(params));
      writings.push_back({KvSequence::create(pool), std::move(starts[i]), std::move(sampler)});
      PrefillRequest request;
      request.tokens = writings[i].tokens;
      request.logits = Span<float>(logits).subspan(i * vocab, vocab);
      KVFERRY_TRY(engine_.prefill(request, *writings[i].sequence));
    }
    std::vector<DecodeInput> inputs(writings.size());
    while (writings[0].tokens.size() < length_) {
      if (cancel_ != nullptr && *cancel_) return Error(ErrorCode::kCancelled, "cancelled");
      for (std::size_t i = 0; i < writings.size(); ++i) {
        Writing& w = writings[i];
        KVFERRY_ASSIGN(
            const TokenId token,
            w.sampler.sample(Span<const float>(logits).subspan(i * vocab, vocab), w.tokens));
        w.tokens.push_back(token);
        inputs[i] = {w.sequence.get(), token};
      }
      KVFERRY_TRY(engine_.step(inputs, Span<float>(logits)));
    }
    std::vector<std::vector<TokenId>> pieces;
    pieces.reserve(writings.size());
    for (Writing& w : writings) pieces.push_back(std::move(w.tokens));
    return pieces;
  }

 private:
  Engine& engine_;
  const std::uint32_t length_;
  const std::atomic<bool>* cancel_;
};

}  // namespace

Result<std::vector<std::vector<TokenId>>> predictor_texts(
    Engine& engine, const Tokenizer& tokenizer, const std::string& text, std::uint32_t length,
    std::uint32_t count, const std::atomic<bool>* cancel, const std::function<void()>& on_piece) {
  TokenizeOptions whole;
  whole.add_special = true;
  KVFERRY_ASSIGN(const std::vector<TokenId> tokens, tokenizer.tokenize(text, whole));
  if (tokens.size() < kLeastTokens) {
    return Error(ErrorCode::kInvalidArgument,
                 "the text to train on has " + std::to_string(tokens.size()) +
                     " tokens; at least " + std::to_string(kLeastTokens) + " are needed");
  }
  const auto from = [&](std::size_t begin, std::size_t size) {
    const auto first = tokens.begin() + static_cast<std::ptrdiff_t>(begin);
    std::vector<TokenId> piece(first, first + static_cast<std::ptrdiff_t>(size));
    piece.front() = tokens.front();  // a beginning-of-text token, where there is one
    return piece;
  };
  std::vector<std::vector<TokenId>> pieces;
  while (pieces.size() < count && (pieces.size() + 1) * length <= tokens.size()) {
    pieces.push_back(from(pieces.size() * length, length));
    on_piece();
  }
  Writer writer(engine, length, cancel);
  while (pieces.size() < count) {
    const std::size_t together = std::min<std::size_t>(kTogether, count - pieces.size());
    std::vector<std::vector<TokenId>> starts;
    for (std::size_t i = 0; i < together; ++i) {
      const std::size_t number = pieces.size() + i;
      starts.push_back(from(number * 7919 % (tokens.size() - kStartTokens), kStartTokens));
    }
    KVFERRY_ASSIGN(auto written, writer.write(std::move(starts), pieces.size()));
    for (auto& piece : written) {
      pieces.push_back(std::move(piece));
      on_piece();
    }
  }
  return pieces;
}

}  // namespace kvferry
