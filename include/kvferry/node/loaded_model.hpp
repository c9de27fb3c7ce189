// LoadedModel: everything a node needs of a model file: engine, tokenizer, identity, cache pool.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "kvferry/cache/pool.hpp"
#include "kvferry/codec/codebook.hpp"
#include "kvferry/codec/predictor.hpp"
#include "kvferry/core/result.hpp"
#include "kvferry/engine/chat_template.hpp"
#include "kvferry/engine/engine.hpp"
#include "kvferry/engine/tokenizer.hpp"
#include "kvferry/model/identity.hpp"
#include "kvferry/node/node_options.hpp"
#include "kvferry/wire/messages.hpp"

namespace kvferry {

struct LoadedModel {
  std::unique_ptr<Engine> engine;
  Tokenizer tokenizer;
  // kNotFound for a model without a template, kUnsupported for one of an unknown form.
  Result<ChatTemplate> chat;
  ModelIdentity identity;
  std::string weight_format;  // of most matrices: "q4_1"
  std::shared_ptr<KvPool> pool;
  std::shared_ptr<const Codebook> codebook;    // null: none
  std::shared_ptr<const Predictor> predictor;  // likewise

  static Result<LoadedModel> load(const ModelOptions& options);

  const ModelConfig& config() const { return engine->config(); }

  // The prompt of a request as token ids: messages through the chat template, text as it is, ids
  // as they are. A single message to a model without a template (a base model) is text. Errors:
  // kInvalidArgument (empty, ids outside of the vocabulary, longer than the context leaves room for
  // one token), and those of the template.
  Result<std::vector<TokenId>> prompt_tokens(const wire::Generate& request) const;

  // What an empty sequence of this pool that this engine fills is known by.
  KvOrigin origin() const;
};

}  // namespace kvferry
