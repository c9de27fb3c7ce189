// The texts that a codec is judged on, and the contexts that are cut from them.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "kvferry/engine/tokenizer.hpp"

namespace kvferry {

struct NamedText {
  std::string name;
  std::string text;
};

// English prose, dialogue, instructions, lists, code and tables, each of about 800 tokens, compiled
// into the library. No text of theirs is in the calibration text.
std::vector<NamedText> evaluation_texts();
// What a codebook is made with unless another text is given.
std::string calibration_text();

// What is scored on top of a context's cache: `tokens` are read in, and the last of them is
// followed by `next`.
struct Continuation {
  std::size_t set = 0;  // of EvaluationContexts::sets
  std::vector<TokenId> tokens;
  TokenId next = 0;
};

struct EvaluationContext {
  std::string name;
  std::vector<TokenId> prompt;
  std::uint32_t chunk_tokens = 0;  // of the prefill, which token classes depend on; 0: one chunk
  std::vector<Continuation> continuations;
};

struct EvaluationContexts {
  std::vector<std::string> sets;  // names of the groups that figures are averaged over
  std::string left_out;           // the group that the texts are too short for; empty: none
  std::vector<EvaluationContext> contexts;
};

// How many contexts, of what length.
struct ContextPlan {
  std::uint32_t short_contexts = 24;
  std::uint32_t long_contexts = 6;
  std::uint32_t retrieval_contexts = 12;  // of the short ones: they are read a second time as well
  std::uint32_t short_tokens = 512;
  std::uint32_t long_tokens = 1536;
  std::uint32_t scored_tokens = 256;
  std::uint32_t chunk_tokens = 0;         // of every prefill; 0: one chunk
  std::uint32_t long_chunk_tokens = 512;  // of a second prefill of the long ones; 0: none
};

// Contexts begin at texts that lie evenly apart, or at places inside of them when there are fewer
// texts than contexts, and go on into the texts after, in a circle, until they are long enough. A
// continuation is the text that
// follows; a retrieval is the context's own middle once more, after an empty line, so that what
// comes next has to be looked up. Long contexts are left out where all texts
// together are shorter. kInvalidArgument when there is no text, or when the texts together are
// shorter than a short context.
Result<EvaluationContexts> make_contexts(const std::vector<NamedText>& texts,
                                         const Tokenizer& tokenizer, const ContextPlan& plan);

}  // namespace kvferry
