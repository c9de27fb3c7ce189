#include "kvferry/node/loaded_model.hpp"

#include <algorithm>
#include <map>
#include <utility>

#include "kvferry/engine/model_file.hpp"

namespace kvferry {
namespace {

// The type that most weights of the layers' matrices have.
std::string weight_format_of(const ModelFile& file) {
  std::map<TensorType, std::uint64_t> values;
  for (const LayerWeights& layer : file.weights().layers) {
    for (const TensorView* m :
         {&layer.q, &layer.k, &layer.v, &layer.o, &layer.gate, &layer.up, &layer.down}) {
      values[m->type] += m->rows * m->columns;
    }
  }
  const auto most =
      std::max_element(values.begin(), values.end(),
                       [](const auto& a, const auto& b) { return a.second < b.second; });
  return most == values.end() ? std::string() : std::string(name_of(most->first));
}

}  // namespace

Result<LoadedModel> LoadedModel::load(const ModelOptions& options) {
  KVFERRY_ASSIGN(const ModelFile file, ModelFile::open(options.file));
  KVFERRY_ASSIGN(Vocabulary vocabulary, vocabulary_from(file.gguf()));
  Result<ChatTemplate> chat = ChatTemplate::from(vocabulary);
  KVFERRY_ASSIGN(Tokenizer tokenizer, Tokenizer::create(std::move(vocabulary)));
  EngineOptions engine_options;
  engine_options.path = options.path;
  engine_options.threads = options.threads;
  KVFERRY_ASSIGN(std::unique_ptr<Engine> engine, Engine::load(file, engine_options));
  KvGeometry geometry = engine->geometry();
  if (options.cache_type) geometry.type = *options.cache_type;
  KVFERRY_ASSIGN(
      std::shared_ptr<KvPool> pool,
      KvPool::create(geometry, KvPool::blocks_for(options.cache_tokens), engine->cache_memory()));
  const ModelIdentity identity = identity_of(file);
  std::shared_ptr<const Codebook> codebook;
  std::shared_ptr<const Predictor> predictor;
  if (!options.codebook.empty()) {
    KVFERRY_ASSIGN(codebook, Codebook::load(options.codebook, identity));
    KVFERRY_TRY(codebook->fits(geometry));
  }
  if (options.predict) {
    if (codebook == nullptr) {
      return Error(ErrorCode::kInvalidArgument,
                   "prediction needs a codebook; kvferry calibrate --predict makes both");
    }
    KVFERRY_ASSIGN(predictor, Predictor::load(Predictor::path_beside(options.codebook), identity));
    KVFERRY_TRY(predictor->serves(geometry, codebook.get()));
  }
  return LoadedModel{
      std::move(engine),      std::move(tokenizer), std::move(chat),     identity,
      weight_format_of(file), std::move(pool),      std::move(codebook), std::move(predictor)};
}

Result<std::vector<TokenId>> LoadedModel::prompt_tokens(const wire::Generate& request) const {
  std::vector<TokenId> tokens;
  TokenizeOptions as_text;
  as_text.add_special = true;
  const bool base_model = !chat.ok() && chat.error().code == ErrorCode::kNotFound;
  if (request.messages.size() == 1 && base_model) {
    KVFERRY_ASSIGN(tokens, tokenizer.tokenize(request.messages[0].content, as_text));
  } else if (!request.messages.empty()) {
    if (!chat.ok()) return chat.error();
    KVFERRY_ASSIGN(tokens, tokenize_chat(tokenizer, *chat, request.messages));
  } else if (!request.token_ids.empty()) {
    tokens = request.token_ids;
  } else {
    KVFERRY_ASSIGN(tokens, tokenizer.tokenize(request.text, as_text));
  }
  if (tokens.empty()) return Error(ErrorCode::kInvalidArgument, "the prompt is empty");
  for (std::size_t i = 0; i < tokens.size(); ++i) {
    if (tokens[i] >= config().vocab) {
      return Error(ErrorCode::kInvalidArgument,
                   "prompt token " + std::to_string(i) + " is id " + std::to_string(tokens[i]) +
                       "; the model has ids below " + std::to_string(config().vocab));
    }
  }
  if (tokens.size() >= config().context_length) {
    return Error(ErrorCode::kInvalidArgument, "the prompt has " + std::to_string(tokens.size()) +
                                                  " tokens; the model's context of " +
                                                  std::to_string(config().context_length) +
                                                  " leaves no room for an answer");
  }
  return tokens;
}

KvOrigin LoadedModel::origin() const {
  KvOrigin origin;
  origin.model = identity.fingerprint();
  origin.provenance.path = engine->path();
  origin.provenance.weight_format = weight_format;
  return origin;
}

}  // namespace kvferry
