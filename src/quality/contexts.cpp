#include "kvferry/quality/contexts.hpp"

#include <algorithm>

namespace kvferry {
namespace {

constexpr const char* kBreak = "\n\n";

// `count` tokens from token `offset` of text `first` on, in a circle.
std::vector<TokenId> tokens_from(const std::vector<std::vector<TokenId>>& texts, std::size_t first,
                                 std::size_t offset, std::size_t count) {
  std::vector<TokenId> out(texts[first].begin() + static_cast<std::ptrdiff_t>(offset),
                           texts[first].end());
  for (std::size_t i = first + 1; out.size() < count; ++i) {
    const std::vector<TokenId>& text = texts[i % texts.size()];
    out.insert(out.end(), text.begin(), text.end());
  }
  out.resize(count);
  return out;
}

}  // namespace

Result<EvaluationContexts> make_contexts(const std::vector<NamedText>& texts,
                                         const Tokenizer& tokenizer, const ContextPlan& plan) {
  if (texts.empty()) return Error(ErrorCode::kInvalidArgument, "there is no text to evaluate on");
  std::vector<std::vector<TokenId>> tokens;
  std::size_t total = 0;
  for (const NamedText& text : texts) {
    KVFERRY_ASSIGN(std::vector<TokenId> ids, tokenizer.tokenize(text.text + kBreak));
    total += ids.size();
    tokens.push_back(std::move(ids));
  }
  KVFERRY_ASSIGN(const std::vector<TokenId> pause, tokenizer.tokenize(kBreak));
  // Models that begin with a token of their own have it at position 0.
  TokenizeOptions whole;
  whole.add_special = true;
  KVFERRY_ASSIGN(std::vector<TokenId> start, tokenizer.tokenize(std::string(), whole));

  EvaluationContexts out;
  const auto size_of = [&plan](std::uint32_t length) {
    return std::to_string(length) + "+" + std::to_string(plan.scored_tokens);
  };
  const auto add = [&](std::uint32_t contexts, std::uint32_t length, std::uint32_t retrievals,
                       std::uint32_t chunk_tokens) -> Status {
    if (contexts == 0) return Status();
    std::string size = size_of(length);
    if (chunk_tokens != 0) size += " in chunks of " + std::to_string(chunk_tokens);
    const std::size_t needed = std::size_t{length} + plan.scored_tokens + 1;
    if (total < needed) {
      return Error(ErrorCode::kInvalidArgument, "the texts have " + std::to_string(total) +
                                                    " tokens together; contexts of " + size +
                                                    " need " + std::to_string(needed));
    }
    const std::size_t continued = out.sets.size();
    out.sets.push_back(size);
    if (retrievals != 0) out.sets.push_back("retrieval " + size);
    for (std::uint32_t i = 0; i < contexts; ++i) {
      // Evenly apart; where there are fewer texts than contexts, inside of them as well.
      const std::size_t text = i * texts.size() / contexts;
      const std::size_t offset = i * texts.size() % contexts * tokens[text].size() / contexts;
      std::vector<TokenId> ids = tokens_from(tokens, text, offset, needed);
      if (start.size() < length) std::copy(start.begin(), start.end(), ids.begin());
      EvaluationContext context;
      context.name = texts[text].name;
      context.chunk_tokens = chunk_tokens;
      context.prompt.assign(ids.begin(), ids.begin() + length);
      Continuation next;
      next.set = continued;
      next.tokens.assign(ids.begin() + length, ids.end() - 1);
      next.next = ids.back();
      context.continuations.push_back(std::move(next));
      if (i < retrievals) {
        // The middle of the context, or all of it where it is shorter than what is scored.
        const std::size_t again = std::min<std::size_t>(plan.scored_tokens, length - 1);
        const std::size_t from = (length - 1 - again) / 2;
        Continuation retrieval;
        retrieval.set = continued + 1;
        retrieval.tokens = pause;
        retrieval.tokens.insert(retrieval.tokens.end(), ids.begin() + static_cast<long>(from),
                                ids.begin() + static_cast<long>(from + again));
        retrieval.next = ids[from + again];
        context.continuations.push_back(std::move(retrieval));
      }
      out.contexts.push_back(std::move(context));
    }
    return Status();
  };
  KVFERRY_TRY(
      add(plan.short_contexts, plan.short_tokens, plan.retrieval_contexts, plan.chunk_tokens));
  // Few texts of one's own are enough for the short ones.
  if (plan.long_contexts != 0 && !out.sets.empty() &&
      total <= std::size_t{plan.long_tokens} + plan.scored_tokens) {
    out.left_out = size_of(plan.long_tokens);
    return out;
  }
  KVFERRY_TRY(add(plan.long_contexts, plan.long_tokens, 0, plan.chunk_tokens));
  if (plan.long_chunk_tokens != 0 && plan.long_chunk_tokens != plan.chunk_tokens) {
    KVFERRY_TRY(add(plan.long_contexts, plan.long_tokens, 0, plan.long_chunk_tokens));
  }
  return out;
}

}  // namespace kvferry
