// SmolLM2 against golden logits: the reference path has to give them, the CPU path has to stay
// close to the reference path. Prints the figures.
#include "golden_logits.hpp"

#include <cstdio>
#include <string>
#include <vector>

#include <catch2/catch.hpp>

#include "kvferry/quality/divergence.hpp"

#include "model_run.hpp"
#include "tests/support/model.hpp"

namespace kvferry_test {
namespace {

using namespace kvferry;

void print(const char* name, const Divergence& d) {
  std::printf("%-16s %5zu steps  mean KL %.5f  p99 %.5f  max %.5f  top-1 %.2f %%\n", name, d.rows,
              d.mean, d.p99, d.max, 100.0 * d.top1);
}

TEST_CASE("every golden prompt, teacher-forced") {
  const ModelFile file = ModelFile::open(model_path()).value();
  const std::size_t vocab = file.config().vocab;
  ModelRun<path::Reference> reference(file, 0);
  ModelRun<path::Cpu> cpu(file, 0);
  GoldenError error;
  DivergenceMeter all;
  for (const GoldenPrompt& prompt : load_golden(golden("golden_f32_public.json"))) {
    const std::size_t steps = prompt.steps.size();
    const auto sequence = reference.sequence();
    const std::vector<float> exact =
        reference.prefill_logits(prompt.forced(), steps, 256, *sequence);
    const auto cpu_sequence = cpu.sequence();
    const std::vector<float> ours = cpu.prefill_logits(prompt.forced(), steps, 256, *cpu_sequence);
    DivergenceMeter meter;
    for (std::size_t s = 0; s < steps; ++s) {
      const Span<const float> row(exact.data() + s * vocab, vocab);
      const Span<const float> cpu_row(ours.data() + s * vocab, vocab);
      error.add(prompt.steps[s], row);
      meter.add(row, cpu_row);
      all.add(row, cpu_row);
    }
    print(prompt.name.c_str(), meter.result());
  }
  const Divergence d = all.result();
  print("all", d);
  std::printf("reference path: largest error %.2e, argmaxes wrong %zu\n",
              static_cast<double>(error.largest), error.argmaxes);
  CHECK(error.largest <= 0.001f);
  CHECK(error.argmaxes == 0);
  CHECK(d.mean <= 0.003);
  CHECK(d.p99 <= 0.02);
  CHECK(d.top1 >= 0.97);
}

}  // namespace
}  // namespace kvferry_test
