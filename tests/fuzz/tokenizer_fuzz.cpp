// Any bytes, tokenised with each small vocabulary: ids inside of the vocabulary; pieces that give
// the text back; a stream of text that is always whole characters.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>
#include <vector>

#include "kvferry/core/quoted.hpp"
#include "kvferry/engine/detokenizer.hpp"
#include "kvferry/engine/gguf.hpp"
#include "kvferry/engine/tokenizer.hpp"

namespace {

using kvferry::TokenId;
using kvferry::Tokenizer;

void require(bool condition) {
  if (!condition) std::abort();
}

const std::vector<Tokenizer>& tokenizers() {
  static const std::vector<Tokenizer> all = [] {
    std::vector<Tokenizer> loaded;
    for (const char* name :
         {"tiny-llama-spm-f16", "tiny-llama3-ropefreqs-bf16", "tiny-qwen2-q8_0"}) {
      const kvferry::GgufFile file =
          kvferry::GgufFile::open(std::string(KVFERRY_GOLDEN_DIR) + "/tiny/" + name + ".gguf")
              .value();
      loaded.push_back(Tokenizer::create(kvferry::vocabulary_from(file).value()).value());
    }
    return loaded;
  }();
  return all;
}

bool is_utf8(std::string_view text) {
  while (!text.empty()) {
    const std::size_t length = kvferry::utf8_length(text);
    if (length == 0) return false;
    text.remove_prefix(length);
  }
  return true;
}

// What SentencePiece makes of a text: a space before it, U+2581 read as a space.
std::string sentence_piece_text(const std::string& text) {
  const std::string symbol = "\xe2\x96\x81";
  std::string out = text.empty() ? "" : " ";
  for (std::size_t i = 0; i < text.size();) {
    const bool space = text.compare(i, symbol.size(), symbol) == 0;
    out.push_back(space ? ' ' : text[i]);
    i += space ? symbol.size() : 1;
  }
  return out;
}

void check(const Tokenizer& tokenizer, const std::string& text, bool parse_special) {
  const std::vector<TokenId> ids = tokenizer.tokenize(text, {false, parse_special}).value();
  kvferry::StreamingDetokenizer stream(tokenizer, true);
  std::string joined;
  std::string streamed;
  for (const TokenId id : ids) {
    require(id < tokenizer.size());
    joined += tokenizer.piece(id).value();
    const std::string part = stream.push(id).value();
    require(is_utf8(part));
    streamed += part;
  }
  streamed += stream.flush();
  require(is_utf8(streamed));
  if (is_utf8(joined)) require(streamed == joined);

  const bool sentence_piece =
      tokenizer.vocabulary().model == kvferry::TokenizerModel::kSentencePiece;
  if (parse_special) return;
  if (is_utf8(text)) {
    require(joined == (sentence_piece ? sentence_piece_text(text) : text));
  } else if (!sentence_piece) {
    require(is_utf8(joined) || text.find('\xed') != std::string::npos);  // encoded surrogates pass
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string text(reinterpret_cast<const char*>(data), size);
  for (const Tokenizer& tokenizer : tokenizers()) {
    check(tokenizer, text, false);
    check(tokenizer, text, true);
  }
  return 0;
}
