// RopeSpec as a model file gives it. The formulas themselves are tested in model/rope_scaling_test.
#include <cmath>
#include <string>
#include <vector>

#include <catch2/catch.hpp>

#include "kvferry/engine/model_file.hpp"

#include "tests/engine/gguf_builder.hpp"

using namespace kvferry;
using namespace kvferry_test;
using Catch::Contains;

namespace {

Result<RopeSpec> rope_of(const GgufBuilder& builder) {
  const std::vector<std::uint8_t> bytes = builder.build();
  Result<GgufFile> file = GgufFile::parse(bytes);
  REQUIRE(file.ok());
  const Result<ModelFile> model = ModelFile::from(*std::move(file));
  if (!model.ok()) return model.error();
  return model->config().rope;
}

void check_frequencies(const GgufBuilder& builder, const std::vector<double>& expected) {
  const RopeSpec spec = rope_of(builder).value();
  REQUIRE(spec.inverse_frequency.size() == expected.size());
  for (std::size_t i = 0; i < expected.size(); ++i) {
    CHECK(static_cast<double>(spec.inverse_frequency[i]) == Approx(expected[i]).epsilon(1e-6));
  }
}

void refused(const GgufBuilder& builder, ErrorCode code, const std::string& part) {
  const Result<RopeSpec> spec = rope_of(builder);
  REQUIRE_FALSE(spec.ok());
  CHECK(name_of(spec.error().code) == std::string(name_of(code)));
  CHECK_THAT(spec.error().message, Contains(part));
}

}  // namespace

TEST_CASE("no scaling") {
  GgufBuilder b = model_builder("llama");
  check_frequencies(b, {1.0, 0.1, 0.01, 0.001});
  b.f32("llama.rope.freq_base", 1e8f);
  check_frequencies(b, {1.0, 0.01, 0.0001, 0.000001});
  // Scaling of type "none" ignores a factor.
  b.text("llama.rope.scaling.type", "none").f32("llama.rope.scaling.factor", 4.0f);
  check_frequencies(b, {1.0, 0.01, 0.0001, 0.000001});
  CHECK(rope_of(b)->layout == RopeLayout::kInterleaved);
  CHECK(rope_of(b)->attention_scale == 1.0f);
  CHECK(rope_of(model_builder("qwen2"))->layout == RopeLayout::kSplitHalves);
  CHECK(rope_of(model_builder("qwen3"))->layout == RopeLayout::kSplitHalves);
}

TEST_CASE("a part of the head is rotated") {
  GgufBuilder b = model_builder("qwen2").u32("qwen2.rope.dimension_count", 4);
  check_frequencies(b, {1.0, 0.01});
  refused(b.u32("qwen2.rope.dimension_count", 3), ErrorCode::kMalformed, "even");
  refused(b.u32("qwen2.rope.dimension_count", 10), ErrorCode::kMalformed, "1 to 8");
}

TEST_CASE("linear scaling, by its keys old and new") {
  GgufBuilder b = model_builder("llama");
  b.text("llama.rope.scaling.type", "linear");
  check_frequencies(b, {1.0, 0.1, 0.01, 0.001});
  b.f32("llama.rope.scaling.factor", 4.0f);
  check_frequencies(b, {0.25, 0.025, 0.0025, 0.00025});
  b.remove_entry("llama.rope.scaling.type");
  check_frequencies(b, {0.25, 0.025, 0.0025, 0.00025});
  b.remove_entry("llama.rope.scaling.factor").f32("llama.rope.scale_linear", 2.0f);
  check_frequencies(b, {0.5, 0.05, 0.005, 0.0005});
  b.f32("llama.rope.scale_linear", 0.0f);
  check_frequencies(b, {1.0, 0.1, 0.01, 0.001});
  b.f32("llama.rope.scaling.attn_factor", 1.25f);
  CHECK(rope_of(b)->attention_scale == 1.25f);
}

TEST_CASE("YaRN") {
  GgufBuilder b = model_builder("llama");
  b.text("llama.rope.scaling.type", "yarn").f32("llama.rope.scaling.factor", 4.0f);
  b.u32("llama.rope.scaling.original_context_length", 64);
  // Pairs 0 and 1 turn 10.2 and 1.02 times in 64 tokens: with the default 32 and 1 turns the ramp
  // runs from pair 0 (where log gives -0.5) to pair 2 (1.008 rounded up).
  check_frequencies(b, {1.0, 0.5 * 0.1 + 0.5 * 0.025, 0.0025, 0.00025});
  CHECK(rope_of(b)->attention_scale == Approx(1.0 + 0.1 * std::log(4.0)));
  // Betas from the file: 2 turns are at pair 0.707, 0.02 turns at pair 2.707.
  b.f32("llama.rope.scaling.yarn_beta_fast", 2.0f).f32("llama.rope.scaling.yarn_beta_slow", 0.02f);
  check_frequencies(b, {1.0, (2 * 0.1 + 0.025) / 3, (0.01 + 2 * 0.0025) / 3, 0.00025});
  b.f32("llama.rope.scaling.yarn_ext_factor", 0.0f);
  check_frequencies(b, {0.25, 0.025, 0.0025, 0.00025});
  CHECK(rope_of(b)->attention_scale == 1.0f);
  b.f32("llama.rope.scaling.yarn_ext_factor", -1.0f);
  b.f32("llama.rope.scaling.attn_factor", 0.5f);
  CHECK(rope_of(b)->attention_scale == Approx(0.5 + 0.05 * std::log(4.0)));
  refused(b.f32("llama.rope.scaling.yarn_ext_factor", 1.5f), ErrorCode::kMalformed, "ext_factor");
  b.remove_entry("llama.rope.scaling.yarn_ext_factor");
  refused(b.f32("llama.rope.scaling.yarn_beta_slow", 0.0f), ErrorCode::kMalformed, "beta_slow");
  b.remove_entry("llama.rope.scaling.yarn_beta_slow");
  refused(b.f32("llama.rope.scaling.factor", 0.5f), ErrorCode::kMalformed, "YaRN");
}

TEST_CASE("scalings that are not supported are named") {
  for (const char* const type : {"longrope", "dynamic", "", "YARN"}) {
    refused(model_builder("llama").text("llama.rope.scaling.type", type), ErrorCode::kUnsupported,
            "RoPE scaling \"" + std::string(type) + "\"");
  }
  refused(model_builder("llama").u32("llama.rope.scaling.type", 1), ErrorCode::kMalformed,
          "a string");
  for (const float factor : {-1.0f, 1e-4f, 1e9f, std::nanf("")}) {
    refused(model_builder("llama").f32("llama.rope.scaling.factor", factor), ErrorCode::kMalformed,
            "rope.scaling.factor");
  }
}

TEST_CASE("frequency factors from the tensor") {
  GgufBuilder b = model_builder("llama");
  const auto factors = [](float a, float c) {
    return GgufBuilder::Tensor{"rope_freqs.weight", {4}, 0, le(a) + le(2.0f) + le(8.0f) + le(c), 0};
  };
  b.tensor(factors(1.0f, 10.0f));
  check_frequencies(b, {1.0, 0.05, 0.00125, 0.0001});
  for (const float bad : {0.0f, -1.0f, std::nanf(""), HUGE_VALF}) {
    refused(b.tensor(factors(1.0f, bad)), ErrorCode::kMalformed, "index 3");
  }
  refused(b.f32_tensor("rope_freqs.weight", {3}), ErrorCode::kMalformed, "3 values");
  b.tensor({"rope_freqs.weight", {4}, 1, std::string(8, 'x'), 0});
  refused(b, ErrorCode::kUnsupported, "F16");
}
