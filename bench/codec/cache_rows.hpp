// The cache that the codec is measured on: a real model's, prefilled here.
#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "kvferry/codec/block.hpp"
#include "kvferry/codec/token_classes.hpp"
#include "kvferry/engine/engine.hpp"
#include "kvferry/engine/tokenizer.hpp"
#include "kvferry/quality/contexts.hpp"

namespace kvferry::bench {

// The rows of one block as F16, and the classes of its tokens.
struct BlockRows {
  KvRange range;
  std::vector<std::uint8_t> rows;
  std::vector<std::uint8_t> classes;

  std::size_t values() const { return rows.size() / 2; }
};

struct CacheRows {
  KvGeometry geometry;
  std::vector<BlockRows> blocks;  // by tokens, then by layer, K before V: as a prefill gives them

  std::size_t values() const {
    std::size_t all = 0;
    for (const BlockRows& b : blocks) all += b.values();
    return all;
  }
};

// Prefills `tokens` tokens of the library's evaluation texts in chunks of kMaxBlockTokens.
inline Result<CacheRows> prefill_cache(const ModelFile& file, std::uint32_t tokens) {
  KVFERRY_ASSIGN(Vocabulary vocabulary, vocabulary_from(file.gguf()));
  KVFERRY_ASSIGN(const Tokenizer tokenizer, Tokenizer::create(std::move(vocabulary)));
  std::string text;
  for (const NamedText& t : evaluation_texts()) text += t.text;
  KVFERRY_ASSIGN(std::vector<TokenId> ids, tokenizer.tokenize(text));
  if (ids.size() < tokens) {
    return Error(ErrorCode::kInvalidArgument, "the built-in texts have " +
                                                  std::to_string(ids.size()) +
                                                  " tokens; ask for at most that many");
  }
  ids.resize(tokens);

  KVFERRY_ASSIGN(const std::unique_ptr<Engine> engine, Engine::load(file));
  KVFERRY_ASSIGN(const auto pool,
                 KvPool::create(engine->geometry(), KvPool::blocks_for(tokens) + 1));
  const auto sequence = KvSequence::create(pool);
  std::vector<float> attention(std::size_t{engine->config().layers} * tokens);
  PrefillRequest request;
  request.tokens = ids;
  request.chunk_tokens = kMaxBlockTokens;
  request.attention = attention;
  KVFERRY_TRY(engine->prefill(request, *sequence));

  CacheRows cache;
  cache.geometry = engine->geometry();
  for (std::uint32_t begin = 0; begin < tokens; begin += kMaxBlockTokens) {
    const std::uint32_t end = std::min(begin + kMaxBlockTokens, tokens);
    for (std::uint32_t layer = 0; layer < cache.geometry.layers; ++layer) {
      for (const Plane plane : {Plane::kKey, Plane::kValue}) {
        BlockRows block;
        block.range = {layer, plane, begin, end};
        block.rows.resize((end - begin) * cache.geometry.row_bytes());
        KVFERRY_TRY(sequence->read(block.range, sequence->generation(), block.rows));
        block.classes.resize(end - begin);
        token_classes(Span<const float>(attention).subspan(layer * tokens + begin, end - begin),
                      block.classes);
        cache.blocks.push_back(std::move(block));
      }
    }
  }
  return cache;
}

}  // namespace kvferry::bench
