// kvferry eval: the rate-distortion table of the codec's profiles beside other formats.
#include <algorithm>
#include <iostream>
#include <memory>
#include <utility>

#include <dirent.h>
#include <nlohmann/json.hpp>
#include <sys/stat.h>

#include "kvferry/codec/codebook.hpp"
#include "kvferry/core/atomic_file.hpp"
#include "kvferry/engine/model_file.hpp"
#include "kvferry/quality/baselines.hpp"
#include "kvferry/quality/rate_distortion.hpp"

#include "cli/files.hpp"
#include "cli/interrupt.hpp"
#include "cli/progress.hpp"
#include "command.hpp"

namespace kvferry::cli {
namespace {

struct Options {
  std::string model;
  std::string codebook;
  bool predict = false;
  std::string contexts;
  std::vector<std::string> profiles;
  std::vector<std::string> baselines;
  std::size_t threads = 0;
  std::uint32_t chunk = 0;
  std::vector<std::uint32_t> block_tokens = {kMaxBlockTokens};
  bool flat = false;
  bool quick = false;
  std::string plot;
  bool json = false;
};

constexpr std::uint32_t kRetrievalMargin = 16;

// The *.txt files of a folder, by name.
Result<std::vector<NamedText>> texts_of(const std::string& folder) {
  std::vector<std::string> names;
  DIR* entries = ::opendir(folder.c_str());
  if (entries == nullptr) return Error(ErrorCode::kIo, "cannot read the folder " + folder);
  while (const dirent* entry = ::readdir(entries)) {
    const std::string name = entry->d_name;
    struct stat found;
    if (name.size() > 4 && name.compare(name.size() - 4, 4, ".txt") == 0 &&
        ::fstatat(::dirfd(entries), entry->d_name, &found, 0) == 0 && S_ISREG(found.st_mode)) {
      names.push_back(name);
    }
  }
  ::closedir(entries);
  std::sort(names.begin(), names.end());
  std::vector<NamedText> texts;
  for (const std::string& name : names) {
    std::string path = folder;
    path += '/';
    path += name;
    KVFERRY_ASSIGN(std::string text, read_file(path));
    texts.push_back({name.substr(0, name.size() - 4), std::move(text)});
  }
  if (texts.empty())
    return Error(ErrorCode::kInvalidArgument, "there is no .txt file in " + folder);
  return texts;
}

// Shorter contexts where the model's own is short.
ContextPlan plan_of(const Options& options, const ModelConfig& config) {
  ContextPlan plan;
  plan.chunk_tokens = options.chunk;
  if (options.chunk != 0) plan.long_chunk_tokens = 0;
  if (options.quick) {
    plan.short_contexts = 4;
    plan.long_contexts = 1;
    plan.retrieval_contexts = 2;
    plan.long_chunk_tokens = 0;
  }
  // A retrieval begins with a few tokens of its own.
  const auto fits = [&](std::uint32_t tokens) {
    return tokens + plan.scored_tokens + kRetrievalMargin <= config.context_length;
  };
  if (!fits(plan.long_tokens)) plan.long_contexts = 0;
  if (!fits(plan.short_tokens)) {
    plan.short_tokens = config.context_length / 2;
    plan.scored_tokens = config.context_length / 4;
  }
  return plan;
}

template <typename T>
std::vector<T> each_once(const std::vector<T>& values) {
  std::vector<T> once;
  for (const T& value : values) {
    if (std::find(once.begin(), once.end(), value) == once.end()) once.push_back(value);
  }
  return once;
}

Result<std::vector<std::unique_ptr<CacheCodec>>> codecs_of(
    const Options& options, const std::shared_ptr<const Codebook>& codebook,
    const std::shared_ptr<const Predictor>& predictor) {
  std::vector<std::unique_ptr<CacheCodec>> codecs;
  const auto add = [&codecs](const ProfileCodecOptions& profile) -> Status {
    KVFERRY_ASSIGN(std::unique_ptr<CacheCodec> codec, profile_codec(profile));
    codecs.push_back(std::move(codec));
    return {};
  };
  for (const std::string& name : each_once(options.profiles)) {
    ProfileCodecOptions profile;
    KVFERRY_ASSIGN(profile.profile, profile_from_name(name));
    profile.codebook = codebook;
    for (const std::uint32_t tokens : each_once(options.block_tokens)) {
      profile.block_tokens = tokens;
      profile.token_classes = true;
      profile.predictor = nullptr;
      KVFERRY_TRY(add(profile));
      if (!is_quantised(profile.profile)) continue;
      if (predictor != nullptr) {
        profile.predictor = predictor;
        KVFERRY_TRY(add(profile));
      }
      profile.token_classes = false;
      profile.predictor = nullptr;
      if (options.flat) KVFERRY_TRY(add(profile));
    }
  }
  const auto& names = options.baselines;
  if (names.size() > 1 && std::find(names.begin(), names.end(), "none") != names.end()) {
    return Error(ErrorCode::kInvalidArgument, "--baselines: none, or names, not both");
  }
  for (std::unique_ptr<CacheCodec>& baseline : baselines()) {
    if (names.empty() || std::find(names.begin(), names.end(), baseline->name()) != names.end())
      codecs.push_back(std::move(baseline));
  }
  if (codecs.empty()) return Error(ErrorCode::kInvalidArgument, "nothing to evaluate");
  return codecs;
}

nlohmann::json to_json(const Evaluation& evaluation) {
  nlohmann::json sets = nlohmann::json::object();
  for (std::size_t s = 0; s < evaluation.sets.size(); ++s) {
    nlohmann::json& set = sets[evaluation.sets[s]];
    for (const CodecFigures& codec : evaluation.codecs) {
      const SetFigures& f = codec.sets[s];
      const Divergence& d = f.divergence;
      set.push_back({{"codec", codec.name},
                     {"baseline", codec.is_baseline},
                     {"bits_per_value", f.bits_per_value()},
                     {"tokens", d.rows},
                     {"mean_kl", d.mean},
                     {"median_kl", d.median},
                     {"p99_kl", d.p99},
                     {"p999_kl", d.p999},
                     {"max_kl", d.max},
                     {"top1", d.top1},
                     {"delta_ln_ppl", d.loss}});
    }
  }
  return sets;
}

void print(const Options& options, const Evaluation& result, const Codebook* codebook,
           const Predictor* predictor) {
  if (options.json) {
    const std::size_t bytes = codebook == nullptr ? 0 : codebook->bytes().size();
    const nlohmann::json out = {
        {"model", result.model},
        {"codebook_bytes", bytes},
        {"predictor_bytes", predictor == nullptr ? 0 : predictor->bytes().size()},
        {"sets", to_json(result)}};
    std::cout << out.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace) << '\n';
    return;
  }
  if (codebook == nullptr) {
    std::cout << "without a codebook; make one with kvferry calibrate\n\n";
  } else {
    std::cout << "codebook of " << codebook->bytes().size() << " bytes";
    if (predictor != nullptr) {
      std::cout << " and predictor of " << predictor->bytes().size() << " bytes";
    }
    std::cout << ", not counted\n\n";
  }
  std::cout << rate_distortion_tables(result);
}

Status run(const Options& options) {
  if (!options.plot.empty()) {
    KVFERRY_TRY(check_output(
        options.plot, {options.model, options.codebook, Predictor::path_beside(options.codebook)}));
  }
  KVFERRY_ASSIGN(const ModelFile file, ModelFile::open(options.model));
  KVFERRY_ASSIGN(Vocabulary vocabulary, vocabulary_from(file.gguf()));
  KVFERRY_ASSIGN(const Tokenizer tokenizer, Tokenizer::create(std::move(vocabulary)));
  std::shared_ptr<const Codebook> codebook;
  if (!options.codebook.empty()) {
    KVFERRY_ASSIGN(codebook, Codebook::load(options.codebook, identity_of(file)));
  }
  std::shared_ptr<const Predictor> predictor;
  if (options.predict) {
    KVFERRY_ASSIGN(predictor,
                   Predictor::load(Predictor::path_beside(options.codebook), identity_of(file)));
  }
  KVFERRY_ASSIGN(const auto codecs, codecs_of(options, codebook, predictor));
  std::vector<NamedText> texts = evaluation_texts();
  if (!options.contexts.empty()) {
    KVFERRY_ASSIGN(texts, texts_of(options.contexts));
  }
  KVFERRY_ASSIGN(const EvaluationContexts contexts,
                 make_contexts(texts, tokenizer, plan_of(options, file.config())));
  if (!contexts.left_out.empty()) {
    std::cerr << "the texts are too short for contexts of " << contexts.left_out << ": left out\n";
  }
  EngineOptions engine_options;
  engine_options.path = "reference";
  engine_options.threads = options.threads;
  KVFERRY_ASSIGN(const std::unique_ptr<Engine> engine, Engine::load(file, engine_options));

  EvaluationOptions evaluation;
  evaluation.threads = options.threads;
  evaluation.cancel = &interrupted();
  Progress progress("evaluating");
  evaluation.on_progress = [&](std::size_t done, std::size_t total) { progress.show(done, total); };
  KVFERRY_ASSIGN(Evaluation result, evaluate(*engine, contexts, codecs, evaluation));
  result.model = options.model.substr(options.model.rfind('/') + 1);
  progress.end();

  print(options, result, codebook.get(), predictor.get());
  if (!options.plot.empty()) {
    KVFERRY_ASSIGN(AtomicFile plot, AtomicFile::create(options.plot, FileAccess::kCommon));
    KVFERRY_TRY(plot.write(as_bytes(rate_distortion_plot(result))));
    KVFERRY_TRY(plot.commit());
  }
  return {};
}

std::string is_profile(const std::string& name) {
  const Result<Profile> profile = profile_from_name(name);
  return profile.ok() ? std::string() : profile.error().message;
}

}  // namespace

void add_eval(CLI::App& app, Command& chosen) {
  const auto options = std::make_shared<Options>();
  CLI::App* command = app.add_subcommand(
      "eval",
      "Show what codec profiles do to this model: bits a value, all that travels counted, and how "
      "far the model's next-token distributions move (KL divergence, computed in F32), beside "
      "other "
      "formats. Minutes; --quick takes two");
  command->add_option("--model", options->model, "GGUF model file")->required();
  CLI::Option* codebook = command->add_option("--codebook", options->codebook,
                                              "File that kvferry calibrate has written");
  command
      ->add_flag("--predict", options->predict,
                 "Show each profile with prediction across layers as well, with the .kvfp file "
                 "beside the codebook")
      ->needs(codebook);
  command->add_option("--contexts", options->contexts,
                      "Folder of .txt files to evaluate on instead of the texts built in");
  for (const Profile profile : {Profile::kHigh, Profile::kMedium, Profile::kLow, Profile::kLowest})
    options->profiles.emplace_back(name_of(profile));
  command->add_option("--profiles", options->profiles, "Profiles, separated by commas")
      ->delimiter(',')
      ->check(is_profile)
      ->capture_default_str();
  std::vector<std::string> names;
  for (const auto& baseline : baselines()) names.push_back(baseline->name());
  names.emplace_back("none");
  command->add_option("--baselines", options->baselines, "Only these other formats, or none")
      ->delimiter(',')
      ->check(CLI::IsMember(names));
  command->add_flag("--flat", options->flat, "Show each profile without token classes as well");
  command->add_option("--chunk", options->chunk, "Tokens of a prefill chunk; 0 = the whole context")
      ->capture_default_str()
      ->check(CLI::Range(0, 1 << 20));
  command
      ->add_option("--block-tokens", options->block_tokens,
                   "Tokens of a codec block; several, separated by commas, show each profile so")
      ->delimiter(',')
      ->capture_default_str()
      ->check(CLI::Range(1u, kMaxBlockTokens));
  command->add_option("--threads", options->threads, "Threads; 0 = one for each core")
      ->capture_default_str()
      ->check(CLI::Range(0, 1024));
  command->add_flag("--quick", options->quick, "Few contexts");
  command->add_option("--plot", options->plot,
                      "Write the plot of rate and distortion, an SVG file");
  command->add_flag("--json", options->json, "One JSON object: sets of contexts, codecs of each");
  command->callback([options, &chosen] { chosen = [options] { return run(*options); }; });
}

}  // namespace kvferry::cli
