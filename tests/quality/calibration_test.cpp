#include "kvferry/quality/calibration.hpp"

#include <cmath>
#include <string>
#include <vector>

#include <catch2/catch.hpp>

#include "kvferry/compute/dequantise.hpp"
#include "kvferry/engine/model_file.hpp"
#include "kvferry/quality/contexts.hpp"

#include "tests/engine/model_run.hpp"

namespace kvferry_test {
namespace {

using namespace kvferry;

struct TinyModel {
  ModelFile file = ModelFile::open(golden("tiny/tiny-qwen2-q8_0.gguf")).value();
  Tokenizer tokenizer = Tokenizer::create(vocabulary_from(file.gguf()).value()).value();

  Result<std::shared_ptr<const Codebook>> calibrate(const std::string& text,
                                                    const CalibrationOptions& options = {}) const {
    return kvferry::calibrate(file, tokenizer, text, options);
  }
};

TEST_CASE("a codebook is the model's, and the same for any number of threads") {
  const TinyModel model;
  CalibrationOptions options;
  std::size_t last = 0, total = 0;
  options.threads = 1;
  options.on_progress = [&](std::size_t done, std::size_t of) {
    CHECK(done == ++last);
    total = of;
  };
  const std::string text = calibration_text();
  const auto codebook = model.calibrate(text, options).value();
  CHECK(last == total);
  CHECK(codebook->model() == Codebook::model_of(identity_of(model.file)));
  CHECK(codebook->fits(geometry_of(model.file.config(), ElementType::kF16)).ok());
  options.threads = 3;
  options.on_progress = nullptr;
  CHECK((model.calibrate(text, options).value()->bytes() == codebook->bytes()));
  const auto other = model.calibrate(evaluation_texts()[1].text, options).value();
  CHECK((other->bytes() != codebook->bytes()));
}

TEST_CASE("weights of V follow the output projection, those of K are alike over a RoPE pair") {
  const TinyModel model;
  const ModelConfig& config = model.file.config();
  const auto codebook = model.calibrate(calibration_text()).value();
  const std::size_t dim = config.head_dim, group = config.heads / config.kv_heads;
  for (std::uint32_t l = 0; l < config.layers; ++l) {
    const TensorView& o = model.file.weights().layers[l].o;
    std::vector<std::vector<float>> rows(o.rows, std::vector<float>(o.columns));
    for (std::uint64_t r = 0; r < o.rows; ++r) dequantise_row(o, r, rows[r]);
    std::vector<double> octaves;
    double middle = 0.0;
    for (std::size_t c = 0; c < config.kv_heads * dim; ++c) {
      double sum = 0.0;
      for (std::size_t g = 0; g < group; ++g) {
        for (const auto& row : rows) {
          const float w = row[(c / dim * group + g) * dim + c % dim];
          sum += static_cast<double>(w) * static_cast<double>(w);
        }
      }
      octaves.push_back(-std::log2(std::sqrt(sum)));
      middle += octaves.back() / static_cast<double>(config.kv_heads * dim);
    }
    const CodebookPlane& value = codebook->layers()[l].value;
    for (std::size_t c = 0; c < octaves.size(); ++c)
      CHECK(std::fabs(value.weights[c] - 8.0 * (octaves[c] - middle)) <= 0.51);

    const CodebookPlane& key = codebook->layers()[l].key;
    const std::size_t pairs = config.rope.inverse_frequency.size();
    REQUIRE(config.rope.layout == RopeLayout::kSplitHalves);
    int different = 0;
    for (std::size_t h = 0; h < config.kv_heads; ++h) {
      for (std::size_t i = 0; i < pairs; ++i) {
        CHECK(key.weights[h * dim + i] == key.weights[h * dim + i + pairs]);
        different += key.weights[h * dim + i] != key.weights[h * dim] ? 1 : 0;
      }
    }
    CHECK(different > 0);
  }
}

TEST_CASE("texts that are too short are refused, and a calibration can be cancelled") {
  const TinyModel model;
  CHECK(model.calibrate("Too short.").error().code == ErrorCode::kInvalidArgument);
  CHECK(model.calibrate("").error().code == ErrorCode::kInvalidArgument);
  std::atomic<bool> cancel{false};
  CalibrationOptions options;
  options.cancel = &cancel;
  options.on_progress = [&](std::size_t done, std::size_t) { cancel = done == 3; };
  CHECK(model.calibrate(calibration_text(), options).error().code == ErrorCode::kCancelled);
}

}  // namespace
}  // namespace kvferry_test
