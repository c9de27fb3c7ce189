// kvferry calibrate: makes the codebook that the lossy profiles use with a model.
#include <iostream>
#include <memory>
#include <utility>

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

Status run(const Options& options) {
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
  KVFERRY_TRY(codebook->save(options.out));
  std::cout << options.out << ": " << codebook->bytes().size() << " bytes\n";
  if (!options.predict) return {};

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
  const std::string path = Predictor::path_beside(options.out);
  KVFERRY_TRY(predictor->save(path));
  std::cout << path << ": " << predictor->bytes().size() << " bytes\n";
  return {};
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
