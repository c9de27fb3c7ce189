// kvferry calibrate: makes the codebook that the lossy profiles use with a model.
#include <iostream>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "kvferry/engine/model_file.hpp"
#include "kvferry/quality/calibration.hpp"
#include "kvferry/quality/contexts.hpp"
#include "kvferry/quality/predictor_training.hpp"

#include "cli/files.hpp"
#include "cli/interrupt.hpp"
#include "cli/progress.hpp"
#include "command.hpp"

namespace kvferry::cli {
namespace {

struct Options {
  std::string model;
  std::string text;
  std::string out;
  bool predict = false;
  std::uint32_t depth = PredictorOptions().depth;
  std::size_t threads = 0;
};

// All of the files, or none.
Status save_all(const std::vector<std::pair<std::string, Bytes>>& contents) {
  std::vector<AtomicFile> files;
  for (const auto& content : contents) {
    KVFERRY_ASSIGN(AtomicFile file, AtomicFile::create(content.first, FileAccess::kCommon));
    KVFERRY_TRY(file.write(content.second));
    files.push_back(std::move(file));
  }
  KVFERRY_TRY(commit_all(files));
  for (const auto& content : contents)
    std::cout << content.first << ": " << content.second.size() << " bytes\n";
  return {};
}

Status run(const Options& options) {
  const std::string predictor_file = Predictor::path_beside(options.out);
  KVFERRY_TRY(check_output(options.out, {options.model, options.text}));
  if (options.predict) {
    if (predictor_file == options.out) {
      return Error(ErrorCode::kInvalidArgument,
                   "--out " + options.out +
                       " is the name that the predictor has; choose another, "
                       "as model.kvfc");
    }
    KVFERRY_TRY(check_output(predictor_file, {options.model, options.text}));
  }
  KVFERRY_ASSIGN(const ModelFile file, ModelFile::open(options.model));
  KVFERRY_ASSIGN(Vocabulary vocabulary, vocabulary_from(file.gguf()));
  KVFERRY_ASSIGN(const Tokenizer tokenizer, Tokenizer::create(std::move(vocabulary)));
  std::string text = calibration_text();
  if (!options.text.empty()) {
    KVFERRY_ASSIGN(text, read_file(options.text));
  }
  CalibrationOptions calibration;
  calibration.threads = options.threads;
  calibration.cancel = &interrupted();
  Progress progress("calibrating");
  calibration.on_progress = [&](std::size_t done, std::size_t total) {
    progress.show(done, total);
  };
  KVFERRY_ASSIGN(const std::shared_ptr<const Codebook> codebook,
                 calibrate(file, tokenizer, text, calibration));
  progress.end();
  if (!options.predict) return save_all({{options.out, codebook->bytes()}});

  PredictorOptions training;
  training.depth = options.depth;
  training.threads = options.threads;
  training.cancel = &interrupted();
  Progress training_progress("training the predictor");
  training.on_progress = [&](std::size_t done, std::size_t total) {
    training_progress.show(done, total);
  };
  KVFERRY_ASSIGN(const std::shared_ptr<const Predictor> predictor,
                 train_predictor(file, tokenizer, text, codebook, training));
  training_progress.end();
  return save_all({{options.out, codebook->bytes()}, {predictor_file, predictor->bytes()}});
}

}  // namespace

void add_calibrate(CLI::App& app, Command& chosen) {
  const auto options = std::make_shared<Options>();
  CLI::App* command = app.add_subcommand(
      "calibrate",
      "Measure a model and write its codebook, which the profiles high, medium, low and lowest "
      "take about a bit a value less with. Minutes");
  command->add_option("--model", options->model, "GGUF model file")->required();
  command->add_option("--text", options->text,
                      "Text to measure on instead of the one built in, like what the model will be "
                      "used for; - = standard input");
  command->add_option("--out", options->out, "Codebook file to write")->required();
  CLI::Option* predict = command->add_flag(
      "--predict", options->predict,
      "Also train the prediction across layers, a file beside the codebook that ends in .kvfp");
  command
      ->add_option("--depth", options->depth,
                   "Layers before that a layer is predicted from; each adds a third of the size")
      ->capture_default_str()
      ->check(CLI::Range(1u, Predictor::kMaxDepth))
      ->needs(predict);
  command->add_option("--threads", options->threads, "Threads; 0 = one for each core")
      ->capture_default_str()
      ->check(CLI::Range(0, 1024));
  command->callback([options, &chosen] { chosen = [options] { return run(*options); }; });
}

}  // namespace kvferry::cli
