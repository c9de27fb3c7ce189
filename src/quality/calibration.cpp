#include "kvferry/quality/calibration.hpp"

#include <algorithm>
#include <cmath>
#include <mutex>
#include <utility>

#include "kvferry/compute/reference.hpp"
#include "kvferry/quality/cache_codec.hpp"

#include "channel_statistics.hpp"
#include "context_scorer.hpp"

namespace kvferry {
namespace {

// Contexts of the text that are measured on, at most.
constexpr std::uint32_t kContexts = 4;
constexpr std::uint32_t kContextTokens = 256;
constexpr std::uint32_t kScoredTokens = 96;
constexpr std::uint32_t kLeastTokens = 257;

// Planes are measured at the steps of this profile, near those that they will have.
constexpr Profile kMeasuredProfile = Profile::kLow;
// What all planes together add at that profile without token classes, in nats a token: with them it
// would depend on how many of a context's queries are looked at.
constexpr double kMeasuredDivergence = 0.0065;

// path::Reference, with a look at the queries.
class QueryEngine final : public Engine {
 public:
  static Result<std::unique_ptr<QueryEngine>> load(const ModelFile& file, std::size_t threads) {
    std::unique_ptr<QueryEngine> engine(new QueryEngine(threads));
    KVFERRY_ASSIGN(auto model, Model<path::Reference>::load(file, engine->pool_));
    engine->model_ = std::make_unique<Model<path::Reference>>(std::move(model));
    KVFERRY_ASSIGN(auto compute, Compute<path::Reference>::create(engine->config(), engine->pool_));
    engine->compute_ = std::make_unique<Compute<path::Reference>>(std::move(compute));
    return engine;
  }

  // Queries of every prefill go there from now on; null: nowhere.
  void observe(ChannelStatistics* statistics) { statistics_ = statistics; }

  const ModelConfig& config() const override { return model_->config(); }
  const char* path() const override { return Compute<path::Reference>::kName; }
  LayerRange layers() const override { return model_->layers(); }
  KvGeometry geometry() const override { return model_->geometry(ElementType::kF32); }
  std::shared_ptr<KvMemory> cache_memory() const override {
    return Compute<path::Reference>::cache_memory();
  }
  Status prefill(const PrefillRequest& request, KvSequence& sequence) override {
    PrefillRequest observed = request;
    observed.on_layer = [&](const LayerReady& ready) -> Status {
      if (statistics_ != nullptr) statistics_->add_queries(ready.layer, compute_->queries());
      return request.on_layer ? request.on_layer(ready) : Status();
    };
    return Prefill<path::Reference>(*model_, *compute_).run(observed, sequence);
  }
  Status step(Span<const DecodeInput> inputs, Span<float> logits) override {
    return Decode<path::Reference>(*model_, *compute_).step(inputs, logits);
  }

 private:
  explicit QueryEngine(std::size_t threads) : pool_(threads) {}

  ThreadPool pool_;
  std::unique_ptr<const Model<path::Reference>> model_;
  std::unique_ptr<Compute<path::Reference>> compute_;
  ChannelStatistics* statistics_ = nullptr;
};

// Contexts that lie side by side in the text, or evenly over it where it is longer.
Result<EvaluationContexts> contexts_of(const std::string& text, const Tokenizer& tokenizer,
                                       const ModelConfig& config) {
  TokenizeOptions whole;
  whole.add_special = true;
  KVFERRY_ASSIGN(const std::vector<TokenId> tokens, tokenizer.tokenize(text, whole));
  if (tokens.size() < kLeastTokens) {
    return Error(ErrorCode::kInvalidArgument,
                 "the text to calibrate on has " + std::to_string(tokens.size()) +
                     " tokens; at least " + std::to_string(kLeastTokens) + " are needed");
  }
  const auto length = static_cast<std::uint32_t>(std::min<std::size_t>(
      {kContextTokens + kScoredTokens, tokens.size() - 1, std::size_t{config.context_length}}));
  if (length < 2 * kScoredTokens) {
    return Error(ErrorCode::kUnsupported,
                 "calibration needs a context of " + std::to_string(2 * kScoredTokens) +
                     " tokens, the model has " + std::to_string(config.context_length));
  }
  const std::uint32_t prompt = length - kScoredTokens;
  const auto count =
      static_cast<std::uint32_t>(std::min<std::size_t>(kContexts, (tokens.size() - 1) / length));
  const std::size_t apart = (tokens.size() - 1) / count;
  EvaluationContexts out;
  out.sets.emplace_back("calibration");
  for (std::uint32_t i = 0; i < count; ++i) {
    const auto first = tokens.begin() + static_cast<std::ptrdiff_t>(i * apart);
    EvaluationContext context;
    context.prompt.assign(first, first + prompt);
    context.prompt.front() = tokens.front();  // a beginning-of-text token, where there is one
    Continuation next;
    next.tokens.assign(first + prompt, first + length);
    next.next = first[length];
    context.continuations.push_back(std::move(next));
    out.contexts.push_back(std::move(context));
  }
  return out;
}

class Calibration {
 public:
  Calibration(const ModelFile& file, QueryEngine& engine, const EvaluationContexts& contexts,
              ContextScorer scorer, const CalibrationOptions& options)
      : file_(file),
        engine_(engine),
        contexts_(contexts),
        scorer_(std::move(scorer)),
        options_(options),
        threads_(options.threads) {}

  Result<std::shared_ptr<const Codebook>> run() {
    const std::size_t planes = std::size_t{2} * engine_.config().layers;
    total_ = contexts_.contexts.size() * (planes + 1) + contexts_.contexts.size();
    ChannelStatistics statistics(engine_.config());
    for (const EvaluationContext& context : contexts_.contexts) {
      engine_.observe(&statistics);
      KVFERRY_TRY(scorer_.load(context));
      engine_.observe(nullptr);
      statistics.add_cache(scorer_.cache());
      progress();
    }
    KVFERRY_ASSIGN(layers_, statistics.codebook(file_.weights()));

    std::vector<DivergenceMeter> meters(planes);
    for (const EvaluationContext& context : contexts_.contexts) {
      KVFERRY_TRY(scorer_.load(context));
      KVFERRY_ASSIGN(const ContextCache coded, recode(true));
      ContextCache copy = scorer_.cache();
      for (std::size_t p = 0; p < planes; ++p) {
        const auto at = static_cast<std::ptrdiff_t>(p * copy.plane_values());
        const auto size = static_cast<std::ptrdiff_t>(copy.plane_values());
        std::copy_n(coded.values.begin() + at, size, copy.values.begin() + at);
        KVFERRY_TRY(scorer_.score(copy, 0, threads_, meters[p]));
        std::copy_n(scorer_.cache().values.begin() + at, size, copy.values.begin() + at);
        progress();
      }
    }
    std::vector<double> divergences;
    divergences.reserve(planes);
    for (const DivergenceMeter& meter : meters) divergences.push_back(meter.result().mean);
    equalise(divergences);

    // Planes do not add up exactly: what they have together sets the scale.
    DivergenceMeter together;
    for (const EvaluationContext& context : contexts_.contexts) {
      KVFERRY_TRY(scorer_.load(context));
      KVFERRY_ASSIGN(const ContextCache coded, recode(false));
      KVFERRY_TRY(scorer_.score(coded, 0, threads_, together));
      progress();
    }
    scale(kMeasuredDivergence / std::max(together.result().mean, 1e-12));
    return codebook();
  }

 private:
  Result<std::shared_ptr<const Codebook>> codebook() const {
    const ModelConfig& config = engine_.config();
    return Codebook::create(Codebook::model_of(identity_of(file_)), config.kv_heads,
                            config.head_dim, layers_);
  }

  // The loaded context's cache after coding with the codebook as it is now.
  Result<ContextCache> recode(bool token_classes) {
    ProfileCodecOptions options;
    options.token_classes = token_classes;
    options.profile = kMeasuredProfile;
    KVFERRY_ASSIGN(options.codebook, codebook());
    KVFERRY_ASSIGN(const std::unique_ptr<CacheCodec> codec, profile_codec(options));
    ContextCache copy = scorer_.cache();
    KVFERRY_ASSIGN(const std::uint64_t bits, codec->recode(scorer_.cache(), threads_, copy.values));
    static_cast<void>(bits);
    return copy;
  }

  // A plane's divergence goes with the square of its step. The rate is the least for a given sum
  // when all planes have the same.
  void equalise(const std::vector<double>& divergences) {
    const double share = kMeasuredDivergence / static_cast<double>(divergences.size());
    for (std::size_t p = 0; p < divergences.size(); ++p) {
      // What cannot be measured bounds what is concluded from it.
      const double measured = std::max(divergences[p], share * 1e-3);
      add_to_step(p, share / measured);
    }
  }
  void scale(double factor) {
    for (std::size_t p = 0; p < 2 * layers_.size(); ++p) add_to_step(p, factor);
  }
  // Makes a plane's divergence `factor` times as large.
  void add_to_step(std::size_t p, double factor) {
    CodebookPlane& plane = layers_[p / 2].plane(p % 2 == 0 ? Plane::kKey : Plane::kValue);
    const double step = plane.step + std::round(8.0 * 0.5 * std::log2(factor));
    const double most = Codebook::kMaxStep;
    plane.step = static_cast<std::int16_t>(std::max(-most, std::min(most, step)));
  }
  void progress() {
    ++done_;
    if (options_.on_progress) options_.on_progress(done_, total_);
  }

  const ModelFile& file_;
  QueryEngine& engine_;
  const EvaluationContexts& contexts_;
  ContextScorer scorer_;
  const CalibrationOptions& options_;
  ThreadPool threads_;
  std::vector<CodebookLayer> layers_;
  std::size_t done_ = 0;
  std::size_t total_ = 0;
};

}  // namespace

Result<std::shared_ptr<const Codebook>> calibrate(const ModelFile& file, const Tokenizer& tokenizer,
                                                  const std::string& text,
                                                  const CalibrationOptions& options) {
  KVFERRY_ASSIGN(const EvaluationContexts contexts, contexts_of(text, tokenizer, file.config()));
  KVFERRY_ASSIGN(const std::unique_ptr<QueryEngine> engine,
                 QueryEngine::load(file, options.threads));
  KVFERRY_ASSIGN(ContextScorer scorer, ContextScorer::create(*engine, contexts, options.cancel));
  return Calibration(file, *engine, contexts, std::move(scorer), options).run();
}

}  // namespace kvferry
