#include "pre_tokenizer.hpp"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <algorithm>
#include <array>
#include <cstddef>
#include <limits>

#include <pcre2.h>

// The properties that the published expressions name, over class bytes (unicode.hpp): what stands
// inside of [ ].
#define LETTER "A-Za-z\\x80"
#define NUMBER "0-9\\x81"
#define SPACE "\\x09-\\x0d\\x20\\x83"

namespace kvferry {
namespace {

constexpr const char* kGpt2 =
    "'s|'t|'re|'ve|'m|'ll|'d| ?[" LETTER "]+| ?[" NUMBER "]+| ?[^" SPACE LETTER NUMBER "]+|[" SPACE
    "]+(?![^" SPACE "])|[" SPACE "]+";

#define LLAMA3_BEFORE_NUMBERS                                                                 \
  "'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD]|[^\\r\\n" LETTER NUMBER "]?[" LETTER \
  "]+"                                                                                        \
  "|"
#define LLAMA3_AFTER_NUMBERS                                                              \
  "| ?[^" SPACE LETTER NUMBER "]+[\\r\\n]*|[" SPACE "]*[\\r\\n]+|[" SPACE "]+(?![^" SPACE \
  "])|[" SPACE "]+"

constexpr const char* kLlama3 = LLAMA3_BEFORE_NUMBERS "[" NUMBER "]{1,3}" LLAMA3_AFTER_NUMBERS;
constexpr const char* kQwen2 = LLAMA3_BEFORE_NUMBERS "[" NUMBER "]" LLAMA3_AFTER_NUMBERS;

// Punctuation and $ + < = > ^ ~ |, which in ASCII is everything printable but letters, numbers and
// the grave accent.
constexpr const char* kPunctuationRuns = "[!-/:-@\\[-_{-~\\x82]+";

struct Named {
  const char* name;
  PreTokenizerTraits traits;
};

const std::vector<Named>& known() {
  static const std::vector<Named> table = [] {
    PreTokenizerTraits gpt2;
    gpt2.expressions = {kGpt2};
    gpt2.cleans_spaces = true;
    PreTokenizerTraits generic = gpt2;
    generic.expressions = {kPunctuationRuns, kGpt2, "[" NUMBER "]+", "[0-9][0-9][0-9]"};
    PreTokenizerTraits smollm;
    smollm.expressions = {"[" NUMBER "]", kGpt2};
    PreTokenizerTraits llama3;
    llama3.expressions = {kLlama3};
    llama3.ignore_merges = true;
    llama3.adds_bos = true;
    llama3.cleans_spaces = true;
    PreTokenizerTraits qwen2;
    qwen2.expressions = {kQwen2};
    return std::vector<Named>{
        {"default", generic},
        {"", generic},
        {"gpt-2", gpt2},
        {"smollm", smollm},
        {"llama-bpe", llama3},
        {"llama3", llama3},
        {"llama-v3", llama3},
        {"falcon3", llama3},
        {"pixtral", llama3},
        {"qwen2", qwen2},
        {"deepseek-r1-qwen", qwen2},
    };
  }();
  return table;
}

struct FreeCode {
  void operator()(pcre2_code* code) const { pcre2_code_free(code); }
};
struct FreeMatch {
  void operator()(pcre2_match_data* match) const { pcre2_match_data_free(match); }
};
struct FreeContext {
  void operator()(pcre2_match_context* context) const { pcre2_match_context_free(context); }
};

std::string pcre2_message(int code) {
  std::array<PCRE2_UCHAR, 128> text{};
  pcre2_get_error_message(code, text.data(), text.size());
  return std::string(reinterpret_cast<const char*>(text.data()));
}

Error out_of_memory() {
  return Error(ErrorCode::kResourceExhausted, "pre-tokenizer: out of memory");
}

}  // namespace

const PreTokenizerTraits* pre_tokenizer_traits(std::string_view name) {
  for (const Named& entry : known()) {
    if (name == entry.name) return &entry.traits;
  }
  return nullptr;
}

struct PreTokenizer::Expression {
  std::unique_ptr<pcre2_code, FreeCode> code;
};

Result<PreTokenizer> PreTokenizer::create(const PreTokenizerTraits& traits) {
  PreTokenizer result;
  for (const char* text : traits.expressions) {
    int error = 0;
    PCRE2_SIZE offset = 0;
    auto expression = std::make_shared<Expression>();
    expression->code.reset(pcre2_compile(reinterpret_cast<PCRE2_SPTR>(text), PCRE2_ZERO_TERMINATED,
                                         0, &error, &offset, nullptr));
    if (!expression->code) {
      return Error(ErrorCode::kInternal, "pre-tokenizer expression, offset " +
                                             std::to_string(offset) + ": " + pcre2_message(error));
    }
    // Where there is no just-in-time compiler for this CPU the interpreter gives the same matches.
    pcre2_jit_compile(expression->code.get(), PCRE2_JIT_COMPLETE);
    result.expressions_.push_back(std::move(expression));
  }
  return result;
}

Result<std::vector<std::uint32_t>> PreTokenizer::split(std::string_view classes) const {
  std::vector<std::uint32_t> ends = {static_cast<std::uint32_t>(classes.size())};
  std::vector<std::uint32_t> finer;
  const std::unique_ptr<pcre2_match_data, FreeMatch> match(pcre2_match_data_create(1, nullptr));
  const std::unique_ptr<pcre2_match_context, FreeContext> context(
      pcre2_match_context_create(nullptr));
  if (!match || !context) return out_of_memory();
  // No expression tries a character more than a few times. The limit grows with the text, so that
  // it never stops a long run of spaces, and still ends what should turn out not to be linear.
  const std::size_t limit = 10'000'000 + 8 * classes.size();
  pcre2_set_match_limit(context.get(), static_cast<std::uint32_t>(std::min<std::size_t>(
                                           limit, std::numeric_limits<std::uint32_t>::max())));

  for (const auto& expression : expressions_) {
    finer.clear();
    std::size_t begin = 0;
    for (const std::uint32_t end : ends) {
      // Each piece is a text of its own: an expression does not look beyond its ends.
      const auto subject = reinterpret_cast<PCRE2_SPTR>(classes.data() + begin);
      const std::size_t size = end - begin;
      std::size_t done = 0;
      while (done < size) {
        const int count =
            pcre2_match(expression->code.get(), subject, size, done, 0, match.get(), context.get());
        if (count == PCRE2_ERROR_NOMATCH) break;
        if (count < 0) {
          return Error(ErrorCode::kResourceExhausted, "pre-tokenizer, character " +
                                                          std::to_string(begin + done) + ": " +
                                                          pcre2_message(count));
        }
        const PCRE2_SIZE* bounds = pcre2_get_ovector_pointer(match.get());
        if (bounds[0] > done) finer.push_back(static_cast<std::uint32_t>(begin + bounds[0]));
        finer.push_back(static_cast<std::uint32_t>(begin + bounds[1]));
        done = bounds[1];
      }
      if (done < size) finer.push_back(end);
      begin = end;
    }
    ends.swap(finer);
  }
  return ends;
}

}  // namespace kvferry
