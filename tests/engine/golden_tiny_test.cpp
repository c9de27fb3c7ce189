// Small models of every family, RoPE scaling and quantisation against golden logits, and the CPU
// path against the reference path.
#include <cstdio>
#include <fstream>
#include <string>
#include <vector>

#include <catch2/catch.hpp>
#include <nlohmann/json.hpp>

#include "kvferry/quality/divergence.hpp"

#include "golden_logits.hpp"
#include "model_run.hpp"

namespace kvferry_test {
namespace {

using namespace kvferry;

std::vector<std::string> tiny_models() {
  std::ifstream file(golden("tiny/manifest.json"));
  std::vector<std::string> names;
  const nlohmann::json json = nlohmann::json::parse(file);
  for (const nlohmann::json& model : json.at("models")) {
    const std::string name = model.at("file");
    names.push_back(name.substr(0, name.size() - 5));  // without ".gguf"
  }
  return names;
}

TEST_CASE("every small model gives the golden logits") {
  const std::vector<std::string> names = tiny_models();
  REQUIRE(names.size() >= 14);
  for (const std::string& name : names) {
    CAPTURE(name);
    const ModelFile file = ModelFile::open(golden("tiny/" + name + ".gguf")).value();
    ModelRun<path::Reference> reference(file, 2);
    ModelRun<path::Cpu> cpu(file, 2);
    GoldenError error;
    DivergenceMeter meter;
    for (const GoldenPrompt& prompt : load_golden(golden("tiny/" + name + ".golden.json"))) {
      const std::size_t vocab = file.config().vocab;
      const std::size_t steps = prompt.steps.size();
      const auto sequence = reference.sequence();
      const std::vector<float> exact =
          reference.prefill_logits(prompt.forced(), steps, 64, *sequence);
      const auto cpu_sequence = cpu.sequence();
      const std::vector<float> ours = cpu.prefill_logits(prompt.forced(), steps, 64, *cpu_sequence);
      for (std::size_t s = 0; s < steps; ++s) {
        const Span<const float> row(exact.data() + s * vocab, vocab);
        error.add(prompt.steps[s], row);
        meter.add(row, Span<const float>(ours.data() + s * vocab, vocab));
      }
    }
    const Divergence d = meter.result();
    std::printf(
        "%-28s reference: error %.1e, argmaxes wrong %zu; cpu: KL %.1e, max %.1e, top-1 "
        "%.1f %%\n",
        name.c_str(), static_cast<double>(error.largest), error.argmaxes, d.mean, d.max,
        100.0 * d.top1);
    CHECK(error.largest <= 0.001f);
    CHECK(error.argmaxes == 0);
    CHECK(d.mean <= 0.003);
    CHECK(d.p99 <= 0.02);
  }
}

}  // namespace
}  // namespace kvferry_test
