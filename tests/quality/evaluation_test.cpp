#include "kvferry/quality/evaluation.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include <catch2/catch.hpp>

#include "kvferry/core/half.hpp"
#include "kvferry/engine/model_file.hpp"
#include "kvferry/quality/baselines.hpp"
#include "kvferry/quality/rate_distortion.hpp"
#include "kvferry/wire/frame.hpp"

#include "tests/engine/model_run.hpp"

namespace kvferry_test {
namespace {

using namespace kvferry;

struct TinyModel {
  ModelFile file = ModelFile::open(golden("tiny/tiny-llama3-ropefreqs-bf16.gguf")).value();
  Tokenizer tokenizer = Tokenizer::create(vocabulary_from(file.gguf()).value()).value();

  std::unique_ptr<Engine> engine(std::size_t threads = 2) const {
    EngineOptions options;
    options.path = "reference";
    options.threads = threads;
    return Engine::load(file, options).value();
  }
  EvaluationContexts contexts() const {
    ContextPlan plan;
    plan.short_contexts = 2;
    plan.short_tokens = 90;
    plan.scored_tokens = 30;
    plan.retrieval_contexts = 1;
    plan.long_contexts = 1;
    plan.long_tokens = 150;
    plan.long_chunk_tokens = 100;
    return make_contexts(evaluation_texts(), tokenizer, plan).value();
  }
};

// Gives the cache back as it is.
class Identity : public CacheCodec {
 public:
  const std::string& name() const override { return name_; }
  bool is_baseline() const override { return false; }
  Result<std::uint64_t> recode(const ContextCache& cache, ThreadPool&,
                               Span<float> out) const override {
    std::copy(cache.values.begin(), cache.values.end(), out.begin());
    return 5 * cache.values.size();
  }

 private:
  const std::string name_ = "identity";
};

TEST_CASE("built-in texts are many, small and not those that are calibrated on") {
  const std::vector<NamedText> texts = evaluation_texts();
  CHECK(texts.size() == 24);
  const std::string calibration = calibration_text();
  CHECK(calibration.size() > 4000);
  std::size_t bytes = calibration.size();
  for (const NamedText& text : texts) {
    CAPTURE(text.name);
    bytes += text.text.size();
    CHECK(text.text.size() > 2000);
    for (std::size_t i = 0; i + 60 < text.text.size(); i += 60)
      CHECK(calibration.find(text.text.substr(i, 60)) == std::string::npos);
  }
  CHECK(bytes < 200000);
}

TEST_CASE("contexts are cut from the texts in a circle") {
  const TinyModel model;
  const std::vector<NamedText> texts = {{"a", "one two three four"}, {"b", "five six"}};
  ContextPlan plan;
  plan.short_contexts = 3;
  plan.short_tokens = 6;
  plan.scored_tokens = 4;
  plan.retrieval_contexts = 1;
  plan.long_contexts = 0;
  const EvaluationContexts contexts = make_contexts(texts, model.tokenizer, plan).value();
  CHECK(contexts.sets == std::vector<std::string>{"6+4", "retrieval 6+4"});
  REQUIRE(contexts.contexts.size() == 3);
  // Three contexts of two texts: the second one begins two thirds into the first text.
  std::vector<TokenId> circle;
  for (const NamedText* text : {&texts[0], &texts[1], &texts[0], &texts[1]}) {
    const auto ids = model.tokenizer.tokenize(text->text + "\n\n").value();
    const std::size_t skipped = circle.empty() ? 2 * ids.size() / 3 : 0;
    circle.insert(circle.end(), ids.begin() + static_cast<std::ptrdiff_t>(skipped), ids.end());
  }
  TokenizeOptions whole;
  whole.add_special = true;
  const auto start = model.tokenizer.tokenize(std::string(), whole).value();
  std::copy(start.begin(), start.end(), circle.begin());
  const EvaluationContext& second = contexts.contexts[1];
  CHECK(second.name == "a");
  CHECK(contexts.contexts[2].name == "b");
  CHECK(second.prompt == std::vector<TokenId>(circle.begin(), circle.begin() + 6));
  REQUIRE(second.continuations.size() == 1);
  CHECK(second.continuations[0].tokens ==
        std::vector<TokenId>(circle.begin() + 6, circle.begin() + 10));
  CHECK(second.continuations[0].next == circle[10]);

  const EvaluationContext& first = contexts.contexts[0];
  REQUIRE(first.continuations.size() == 2);
  const Continuation& again = first.continuations[1];
  CHECK(again.set == 1);
  const auto pause = model.tokenizer.tokenize("\n\n").value();
  std::vector<TokenId> expected = pause;
  expected.insert(expected.end(), first.prompt.begin(), first.prompt.begin() + 4);
  CHECK(again.tokens == expected);
  CHECK(again.next == first.prompt[4]);

  plan.short_contexts = 0;
  plan.long_contexts = 1;
  plan.long_tokens = 6;
  plan.long_chunk_tokens = 4;
  const EvaluationContexts twice = make_contexts(texts, model.tokenizer, plan).value();
  CHECK(twice.sets == std::vector<std::string>{"6+4", "6+4 in chunks of 4"});
  REQUIRE(twice.contexts.size() == 2);
  CHECK(twice.contexts[0].prompt == twice.contexts[1].prompt);
  CHECK(twice.contexts[0].chunk_tokens == 0);
  CHECK(twice.contexts[1].chunk_tokens == 4);

  plan.long_tokens = 5000;
  CHECK(make_contexts(texts, model.tokenizer, plan).error().code == ErrorCode::kInvalidArgument);
  plan.short_contexts = 1;
  const EvaluationContexts less = make_contexts(texts, model.tokenizer, plan).value();
  CHECK(less.left_out == "5000+4");
  CHECK(less.contexts.size() == 1);
  CHECK(make_contexts({}, model.tokenizer, plan).error().code == ErrorCode::kInvalidArgument);
}

TEST_CASE("an evaluation gives what decoding token by token on the rounded cache gives") {
  const TinyModel model;
  const EvaluationContexts contexts = model.contexts();
  std::vector<std::unique_ptr<CacheCodec>> codecs;
  codecs.push_back(std::make_unique<Identity>());
  const auto engine = model.engine();
  std::size_t last_done = 0, last_total = 0;
  EvaluationOptions options;
  options.threads = 2;
  options.on_progress = [&](std::size_t done, std::size_t total) {
    CHECK(done == ++last_done);
    last_total = total;
  };
  const Evaluation evaluation = evaluate(*engine, contexts, codecs, options).value();
  CHECK(last_done == 5);
  CHECK(last_total == 5);
  CHECK(evaluation.sets == contexts.sets);
  REQUIRE(evaluation.codecs.size() == 1);

  std::vector<DivergenceMeter> meters(contexts.sets.size());
  ModelRun<path::Reference> run(model.file, 1);
  const std::size_t vocab = run.config().vocab;
  for (const EvaluationContext& context : contexts.contexts) {
    const auto sequence = run.sequence();
    run.prefill_logits(context.prompt, 1, 16, *sequence);
    const auto rounded = run.sequence();
    {
      KvAppend append = rounded->append(context.prompt).value();
      const std::vector<std::uint8_t> bytes = cache_bytes(*sequence);
      const KvBlockLayout layout(sequence->geometry());
      const std::size_t head = layout.head_bytes;
      for (std::size_t i = 0; i < bytes.size(); i += head) {
        const std::size_t row = i / head;  // [layers, plane, tokens, kv_heads]
        const std::size_t h = row % layout.kv_heads;
        const std::size_t t = row / layout.kv_heads % context.prompt.size();
        const std::size_t plane = row / layout.kv_heads / context.prompt.size();
        float* to = reinterpret_cast<float*>(
            append.blocks()[t / kBlockTokens] +
            layout.tile_offset(static_cast<std::uint32_t>(plane / 2),
                               plane % 2 == 0 ? Plane::kKey : Plane::kValue,
                               static_cast<std::uint32_t>(h)) +
            t % kBlockTokens * head);
        std::memcpy(to, bytes.data() + i, head);
        for (std::size_t d = 0; d < head / 4; ++d) to[d] = to_float(to_half(to[d]));
      }
      append.publish();
    }
    for (const Continuation& c : context.continuations) {
      const auto exact = sequence->fork(sequence->length()).value();
      const auto copy = rounded->fork(rounded->length()).value();
      for (std::size_t i = 0; i < c.tokens.size(); ++i) {
        std::vector<float> a(vocab), b(vocab);
        run.step({{exact.get(), c.tokens[i]}}, a).value();
        run.step({{copy.get(), c.tokens[i]}}, b).value();
        meters[c.set].add(diverge(a, b, i + 1 < c.tokens.size() ? c.tokens[i + 1] : c.next));
      }
    }
  }
  for (std::size_t s = 0; s < meters.size(); ++s) {
    const SetFigures& figures = evaluation.codecs[0].sets[s];
    const Divergence expected = meters[s].result();
    CHECK(figures.divergence.rows == expected.rows);
    CHECK(expected.mean > 0.0);
    CHECK(figures.divergence.mean == expected.mean);  // the reference path's bits are the same
    CHECK(figures.divergence.p99 == expected.p99);
    CHECK(figures.divergence.loss == expected.loss);
    CHECK(figures.bits_per_value() == 5.0);
  }
}

TEST_CASE("an evaluation can be cancelled") {
  const TinyModel model;
  std::vector<std::unique_ptr<CacheCodec>> codecs = baselines();
  const auto engine = model.engine();
  std::atomic<bool> cancel{false};
  EvaluationOptions options;
  options.cancel = &cancel;
  options.on_progress = [&](std::size_t done, std::size_t) { cancel = done == 2; };
  const auto result = evaluate(*engine, model.contexts(), codecs, options);
  REQUIRE(!result.ok());
  CHECK(result.error().code == ErrorCode::kCancelled);
}

TEST_CASE("a profile's bits are those of its blocks and their frames") {
  CHECK(kBlockFrameBytes == wire::kHeaderBytes + wire::kBlockHeadBytes);
  ContextCache cache;
  cache.geometry.layers = 2;
  cache.geometry.kv_heads = 2;
  cache.geometry.head_dim = 32;
  cache.geometry.type = ElementType::kF32;
  cache.geometry.rope.inverse_frequency.assign(16, 0.1f);
  cache.tokens.assign(70, 1);
  cache.chunk_tokens = 70;
  cache.values.resize(cache.planes() * cache.plane_values());
  for (std::size_t i = 0; i < cache.values.size(); ++i)
    cache.values[i] = std::sin(static_cast<float>(i * i % 1000));
  ThreadPool threads(2);
  std::vector<float> out(cache.values.size());
  const auto bits = [&](ProfileCodecOptions options) {
    std::fill(out.begin(), out.end(), std::numeric_limits<float>::quiet_NaN());
    return profile_codec(options).value()->recode(cache, threads, out).value();
  };
  ProfileCodecOptions options;
  options.profile = Profile::kRaw;
  // Every plane is one block of 70 tokens of F16.
  const std::uint64_t plane = 70 * 64 * 2;
  CHECK(bits(options) == 8 * 4 * (plane + 20 + 60));
  for (std::size_t i = 0; i < out.size(); ++i) CHECK(out[i] == to_float(to_half(cache.values[i])));
  options.block_tokens = 32;  // 32, 32 and 6
  CHECK(bits(options) == 8 * 4 * (plane + 3 * (20 + 60)));
  cache.chunk_tokens = 40;  // 32 and 8; 30
  CHECK(bits(options) == 8 * 4 * (plane + 3 * (20 + 60)));
  cache.chunk_tokens = 24;  // 24, 24 and 22
  options.block_tokens = 256;
  CHECK(bits(options) == 8 * 4 * (plane + 3 * (20 + 60)));

  // One token of each layer that everybody looks at is coded more finely; and all of them where
  // nobody says.
  cache.chunk_tokens = 70;
  options.profile = Profile::kLow;
  const std::uint64_t unknown = bits(options);
  cache.attention.assign(2 * 70, 1e-3f);
  const std::uint64_t plain = bits(options);
  CHECK(plain < unknown);
  const auto error_of = [&](std::size_t token) {
    double sum = 0.0;
    for (std::size_t p = 0; p < cache.planes(); ++p) {
      for (std::size_t c = 0; c < 64; ++c) {
        const std::size_t i = (p * 70 + token) * 64 + c;
        sum += std::pow(static_cast<double>(out[i] - cache.values[i]), 2);
      }
    }
    return sum;
  };
  const double before = error_of(33);
  cache.attention[33] = cache.attention[70 + 33] = 1.0f;
  CHECK(bits(options) > plain);
  CHECK(error_of(33) < before / 8);
  options.token_classes = false;
  CHECK(bits(options) == unknown);
  CHECK(profile_codec(options).value()->name() == "low-flat");

  options.block_tokens = 0;
  CHECK(profile_codec(options).error().code == ErrorCode::kInvalidArgument);
  options.block_tokens = 257;
  CHECK(profile_codec(options).error().code == ErrorCode::kInvalidArgument);
}

TEST_CASE("tables and plot name every codec; what has no logarithm is not plotted") {
  Evaluation evaluation;
  evaluation.sets = {"512+256", "retrieval 512+256"};
  const auto figures = [](double bits, double kl) {
    SetFigures f;
    f.values = 1000;
    f.bits = static_cast<std::uint64_t>(1000 * bits);
    f.divergence.mean = kl;
    return f;
  };
  const double nan = std::numeric_limits<double>::quiet_NaN();
  evaluation.codecs = {{"low", false, {figures(2.0, 5e-3), figures(2.0, 3e-2)}},
                       {"exact", false, {figures(16.0, 0.0), figures(16.0, nan)}},
                       {"q8_0", true, {figures(8.5, 8e-5), figures(8.5, 2e-4)}}};
  const std::string tables = rate_distortion_tables(evaluation);
  for (const char* part : {"512+256: 0 tokens", "low ", "exact ", "q8_0 ", "8.500", "5.00e-03"})
    CHECK(tables.find(part) != std::string::npos);
  const std::string plot = rate_distortion_plot(evaluation);
  const auto count = [&plot](const std::string& part) {
    std::size_t n = 0;
    for (std::size_t at = 0; (at = plot.find(part, at)) != std::string::npos; ++at) ++n;
    return n;
  };
  CHECK(count("<circle") == 4);
  CHECK(count(">exact<") == 0);
  CHECK(count(">low<") == 2);
  CHECK(count("<g ") == 2);
  CHECK(count("</svg>") == 1);
  CHECK(count("nan") + count("inf") == 0);
  CHECK(rate_distortion_plot(Evaluation()).find("</svg>") != std::string::npos);
}

}  // namespace
}  // namespace kvferry_test
