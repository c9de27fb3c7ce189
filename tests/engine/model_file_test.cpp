#include "kvferry/engine/model_file.hpp"

#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include <catch2/catch.hpp>

#include "tests/engine/gguf_builder.hpp"

using namespace kvferry;
using namespace kvferry_test;
using Catch::Contains;

namespace {

// Keeps the bytes that a parsed model points into.
struct Loaded {
  std::vector<std::uint8_t> bytes;
  Result<ModelFile> model;
};
Loaded load(const GgufBuilder& builder) {
  std::vector<std::uint8_t> bytes = builder.build();
  Result<GgufFile> file = GgufFile::parse(bytes);
  REQUIRE(file.ok());
  Result<ModelFile> model = ModelFile::from(*std::move(file));
  return Loaded{std::move(bytes), std::move(model)};
}

void refused(const GgufBuilder& builder, ErrorCode code, const std::vector<std::string>& parts) {
  const Loaded l = load(builder);
  REQUIRE_FALSE(l.model.ok());
  CHECK(name_of(l.model.error().code) == std::string(name_of(code)));
  for (const std::string& part : parts) CHECK_THAT(l.model.error().message, Contains(part));
}

ModelConfig config_of(const GgufBuilder& builder) {
  const Loaded l = load(builder);
  if (!l.model.ok()) FAIL(l.model.error().message);
  return l.model->config();
}

void check_shape(const TensorView& view, std::uint64_t rows, std::uint64_t columns) {
  CHECK(view.rows == rows);
  CHECK(view.columns == columns);
  CHECK(view.data.size() == rows * view.row_bytes());
}

}  // namespace

TEST_CASE("every small model loads with its shape") {
  struct Expected {
    const char* file;
    Architecture architecture;
    std::uint32_t layers, heads, kv_heads, head_dim, hidden, ffn, vocab;
    bool tied;
  };
  const auto llama = Architecture::kLlama;
  const auto qwen2 = Architecture::kQwen2;
  const auto qwen3 = Architecture::kQwen3;
  const Expected all[] = {
      {"tiny-llama-256-q4_0", llama, 1, 4, 1, 64, 256, 512, 384, true},
      {"tiny-llama-256-q4_k", llama, 1, 4, 1, 64, 256, 512, 384, true},
      {"tiny-llama-256-q4_k_m", llama, 1, 4, 1, 64, 256, 512, 384, true},
      {"tiny-llama-256-q5_0", llama, 1, 4, 1, 64, 256, 512, 384, true},
      {"tiny-llama-256-q5_1", llama, 1, 4, 1, 64, 256, 512, 384, true},
      {"tiny-llama-256-q5_k", llama, 1, 4, 1, 64, 256, 512, 384, true},
      {"tiny-llama-256-q6_k", llama, 1, 4, 1, 64, 256, 512, 384, true},
      {"tiny-llama-256-q8_0", llama, 1, 4, 1, 64, 256, 512, 384, true},
      {"tiny-llama-linear-f16", llama, 2, 3, 3, 32, 96, 192, 384, true},
      {"tiny-llama-spm-f16", llama, 2, 2, 2, 128, 256, 96, 800, true},
      {"tiny-llama-yarn-f16", llama, 2, 2, 1, 64, 128, 256, 384, true},
      {"tiny-llama3-ropefreqs-bf16", llama, 2, 3, 1, 64, 192, 192, 768, false},
      {"tiny-qwen2-q8_0", qwen2, 2, 6, 2, 64, 384, 192, 768, false},
      {"tiny-qwen3-f16", qwen3, 2, 4, 2, 128, 128, 256, 640, true},
  };
  for (const Expected& e : all) {
    INFO(e.file);
    const ModelFile model =
        ModelFile::open(std::string(KVFERRY_GOLDEN_DIR "/tiny/") + e.file + ".gguf").value();
    const ModelConfig& c = model.config();
    CHECK(c.architecture == e.architecture);
    CHECK(c.layers == e.layers);
    CHECK(c.heads == e.heads);
    CHECK(c.kv_heads == e.kv_heads);
    CHECK(c.head_dim == e.head_dim);
    CHECK(c.hidden == e.hidden);
    CHECK(c.ffn == e.ffn);
    CHECK(c.vocab == e.vocab);
    CHECK(c.context_length == 256);
    CHECK(c.rope.rotated() == e.head_dim);
    CHECK(c.rope.layout ==
          (e.architecture == llama ? RopeLayout::kInterleaved : RopeLayout::kSplitHalves));
    const ModelWeights& w = model.weights();
    CHECK(w.tied == e.tied);
    CHECK((w.output.data.data() == w.token_embedding.data.data()) == e.tied);
    check_shape(w.token_embedding, e.vocab, e.hidden);
    check_shape(w.output, e.vocab, e.hidden);
    check_shape(w.output_norm, 1, e.hidden);
    REQUIRE(w.layers.size() == e.layers);
    for (const LayerWeights& l : w.layers) {
      check_shape(l.attn_norm, 1, e.hidden);
      check_shape(l.q, e.heads * e.head_dim, e.hidden);
      check_shape(l.k, e.kv_heads * e.head_dim, e.hidden);
      check_shape(l.v, e.kv_heads * e.head_dim, e.hidden);
      check_shape(l.o, e.hidden, e.heads * e.head_dim);
      check_shape(l.ffn_norm, 1, e.hidden);
      check_shape(l.gate, e.ffn, e.hidden);
      check_shape(l.up, e.ffn, e.hidden);
      check_shape(l.down, e.hidden, e.ffn);
      CHECK(l.q_bias.empty() == (e.architecture != qwen2));
      CHECK(l.k_bias.empty() == (e.architecture != qwen2));
      CHECK(l.v_bias.empty() == (e.architecture != qwen2));
      CHECK(l.q_norm.empty() == (e.architecture != qwen3));
      CHECK(l.k_norm.empty() == (e.architecture != qwen3));
    }
  }
}

TEST_CASE("a model outlives the move of its file") {
  ModelFile first = ModelFile::open(KVFERRY_GOLDEN_DIR "/tiny/tiny-llama-256-q8_0.gguf").value();
  const std::uint8_t* const data = first.weights().token_embedding.data.data();
  const ModelFile second = std::move(first);
  CHECK(second.weights().token_embedding.data.data() == data);
  CHECK(second.gguf().find_tensor("token_embd.weight")->data.data() == data);
}

TEST_CASE("each family has its own weights") {
  CHECK(load(model_builder("llama")).model.ok());
  CHECK(load(model_builder("qwen2")).model.ok());
  CHECK(load(model_builder("qwen3")).model.ok());
  for (const char* const name : {"blk.0.attn_q.bias", "blk.0.attn_k.bias", "blk.0.attn_v.bias"}) {
    refused(model_builder("qwen2").remove_tensor(name), ErrorCode::kMalformed, {name, "missing"});
  }
  for (const char* const name : {"blk.0.attn_q_norm.weight", "blk.0.attn_k_norm.weight"}) {
    refused(model_builder("qwen3").remove_tensor(name), ErrorCode::kMalformed, {name, "missing"});
  }
  // Biases are optional in llama files.
  const Loaded biased = load(model_builder("llama").f32_tensor("blk.0.attn_k.bias", {16}));
  REQUIRE(biased.model.ok());
  CHECK(biased.model->weights().layers[0].q_bias.empty());
  check_shape(biased.model->weights().layers[0].k_bias, 1, 16);
}

TEST_CASE("other architectures and kinds of file are named") {
  GgufBuilder b = model_builder("llama");
  for (const char* const name : {"gemma2", "phi3", "qwen2moe", "LLAMA", "", "llama "}) {
    b.text("general.architecture", name);
    refused(b, ErrorCode::kUnsupported, {"architecture \"" + std::string(name) + "\""});
  }
  b.u32("general.architecture", 1);
  refused(b, ErrorCode::kMalformed, {"general.architecture", "a string"});
  b.remove_entry("general.architecture");
  refused(b, ErrorCode::kMalformed, {"general.architecture", "missing"});
  b = model_builder("llama").text("general.type", "adapter");
  refused(b, ErrorCode::kUnsupported, {"\"adapter\"", "general.type"});
  b = model_builder("llama").entry("split.count", GgufType::kUint16, le<std::uint16_t>(3));
  refused(b, ErrorCode::kUnsupported, {"one of 3 parts"});
  b = model_builder("llama").text("general.type", "model");
  b.entry("split.count", GgufType::kUint16, le<std::uint16_t>(1));
  CHECK(load(b).model.ok());
}

TEST_CASE("every required key is missed by name") {
  for (const char* const key :
       {"llama.block_count", "llama.context_length", "llama.embedding_length",
        "llama.feed_forward_length", "llama.attention.head_count",
        "llama.attention.layer_norm_rms_epsilon"}) {
    refused(model_builder("llama").remove_entry(key), ErrorCode::kMalformed, {key, "missing"});
  }
  // As many KV heads as heads when the file does not say.
  refused(model_builder("llama").remove_entry("llama.attention.head_count_kv"),
          ErrorCode::kMalformed, {"blk.0.attn_k.weight", "32 x 16", "32 x 32"});
}

TEST_CASE("every required tensor is missed by name") {
  for (const char* const name :
       {"token_embd.weight", "output_norm.weight", "blk.0.attn_norm.weight", "blk.0.attn_q.weight",
        "blk.0.attn_k.weight", "blk.0.attn_v.weight", "blk.0.attn_output.weight",
        "blk.0.ffn_norm.weight", "blk.0.ffn_gate.weight", "blk.0.ffn_up.weight",
        "blk.0.ffn_down.weight"}) {
    refused(model_builder("llama").remove_tensor(name), ErrorCode::kMalformed, {name, "missing"});
  }
}

TEST_CASE("values out of range are named") {
  const std::string p = "llama.";
  for (const char* const suffix :
       {"block_count", "context_length", "embedding_length", "feed_forward_length",
        "attention.head_count", "attention.head_count_kv", "attention.key_length",
        "attention.value_length", "rope.dimension_count"}) {
    for (const std::uint32_t value : {0u, 0xffffffffu}) {
      GgufBuilder b = model_builder("llama");
      b.u32(p + suffix, value);
      refused(b, ErrorCode::kMalformed, {p + suffix, std::to_string(value)});
    }
    GgufBuilder b = model_builder("llama");
    b.entry(p + suffix, GgufType::kInt32, le(-4));
    refused(b, ErrorCode::kMalformed, {p + suffix, "-4"});
    b.text(p + suffix, "4");
    refused(b, ErrorCode::kMalformed, {p + suffix, "an integer"});
  }
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const float infinity = std::numeric_limits<float>::infinity();
  for (const char* const suffix : {"attention.layer_norm_rms_epsilon", "rope.freq_base"}) {
    for (const float value : {nan, infinity, -infinity, -1.0f, 3e38f}) {
      GgufBuilder b = model_builder("llama");
      refused(b.f32(p + suffix, value), ErrorCode::kMalformed, {p + suffix});
    }
  }
  refused(model_builder("llama").u32("llama.attention.head_count_kv", 3), ErrorCode::kMalformed,
          {"head_count_kv", "3", "4 query heads"});
  refused(model_builder("llama").u32("llama.attention.head_count", 6), ErrorCode::kMalformed,
          {"head_count", "6", "32"});
  refused(model_builder("llama").u32("llama.attention.key_length", 7), ErrorCode::kUnsupported,
          {"7 values", "even"});
  refused(model_builder("llama").u32("llama.attention.value_length", 16), ErrorCode::kUnsupported,
          {"value_length", "16", "8"});
}

TEST_CASE("values a layer count when they are equal") {
  GgufBuilder b = model_builder("llama");
  b.array("llama.attention.head_count_kv", GgufType::kInt32, 1, le(2));
  CHECK(config_of(b).kv_heads == 2);
  b.array("llama.attention.head_count_kv", GgufType::kInt32, 2, le(2) + le(1));
  refused(b, ErrorCode::kUnsupported, {"head_count_kv", "different"});
  b.array("llama.attention.head_count_kv", GgufType::kInt32, 0, "");
  refused(b, ErrorCode::kMalformed, {"head_count_kv", "empty"});
  b.array("llama.attention.head_count_kv", GgufType::kInt32, 1, le(-2));
  refused(b, ErrorCode::kMalformed, {"head_count_kv", "-2"});
}

TEST_CASE("features that would change the result are refused by name") {
  const std::string p = "llama.";
  for (const char* const suffix :
       {"expert_count", "attn_logit_softcapping", "final_logit_softcapping", "attention.clamp_kqv",
        "attention.max_alibi_bias", "attention.shared_kv_layers", "logit_scale", "residual_scale",
        "embedding_scale", "attention.scale", "rope.scaling.yarn_attn_factor"}) {
    GgufBuilder b = model_builder("llama");
    refused(b.f32(p + suffix, 8.0f), ErrorCode::kUnsupported, {p + suffix, "8.0"});
    CHECK(load(b.f32(p + suffix, 0.0f)).model.ok());
    refused(b.text(p + suffix, "no number"), ErrorCode::kMalformed, {p + suffix});
  }
  GgufBuilder b = model_builder("llama");
  CHECK(load(b.f32("llama.logit_scale", 1.0f)).model.ok());
  CHECK(load(b.f32("llama.attention.scale", 0.35355339f)).model.ok());
  for (const char* const suffix : {"use_parallel_residual", "swin_norm"}) {
    b = model_builder("llama").boolean(p + suffix, true);
    refused(b, ErrorCode::kUnsupported, {p + suffix, "true"});
    CHECK(load(b.boolean(p + suffix, false)).model.ok());
  }
  b = model_builder("llama").boolean("llama.attention.causal", false);
  refused(b, ErrorCode::kUnsupported, {"attention.causal"});
  b = model_builder("llama").array("llama.rope.dimension_sections", GgufType::kInt32, 1, le(4));
  refused(b, ErrorCode::kUnsupported, {"rope.dimension_sections"});
  for (const char* const name :
       {"blk.0.attn_output.bias", "blk.0.attn_q_norm.weight", "blk.0.ffn_gate_exps.weight",
        "blk.1.attn_q.weight", "output.bias", "rope_factors_long.weight"}) {
    b = model_builder("llama").f32_tensor(name, {8});
    refused(b, ErrorCode::kUnsupported, {name, "no part"});
  }
}

TEST_CASE("a sliding window limits the context") {
  GgufBuilder b = model_builder("llama");
  CHECK(config_of(b).context_length == 128);
  CHECK(config_of(b.u32("llama.attention.sliding_window", 64)).context_length == 64);
  CHECK(config_of(b.u32("llama.attention.sliding_window", 4096)).context_length == 128);
  CHECK(config_of(b.u32("llama.attention.sliding_window", 0)).context_length == 128);
  b.f32("llama.attention.sliding_window", -1.0f);
  refused(b, ErrorCode::kMalformed, {"sliding_window"});
}

TEST_CASE("head_dim is the file's, or the hidden width over the heads") {
  CHECK(config_of(model_builder("llama")).head_dim == 8);
  GgufBuilder b = model_builder("llama").u32("llama.attention.key_length", 16);
  refused(b, ErrorCode::kMalformed, {"blk.0.attn_q.weight", "32 x 32", "32 x 64"});
  b.f32_tensor("blk.0.attn_q.weight", {32, 64}).f32_tensor("blk.0.attn_k.weight", {32, 32});
  b.f32_tensor("blk.0.attn_v.weight", {32, 32}).f32_tensor("blk.0.attn_output.weight", {64, 32});
  CHECK(config_of(b).head_dim == 16);
}

TEST_CASE("tensors of the wrong shape or type are named") {
  GgufBuilder b = model_builder("llama");
  b.f32_tensor("blk.0.attn_q.weight", {32, 31});
  refused(b, ErrorCode::kMalformed, {"blk.0.attn_q.weight", "32 x 31", "32 x 32"});
  b = model_builder("llama").f32_tensor("blk.0.attn_norm.weight", {32, 2});
  refused(b, ErrorCode::kMalformed, {"blk.0.attn_norm.weight", "32 x 2"});
  b = model_builder("llama").f32_tensor("token_embd.weight", {16, 10});
  refused(b, ErrorCode::kMalformed, {"token_embd.weight", "16 x 10", "32 x any"});
  b = model_builder("llama").f32_tensor("output.weight", {32, 11});
  refused(b, ErrorCode::kMalformed, {"output.weight", "32 x 11", "32 x 10"});
  b = model_builder("llama").f32_tensor("blk.0.ffn_up.weight", {32, 64, 2});
  refused(b, ErrorCode::kMalformed, {"blk.0.ffn_up.weight", "32 x 64 x 2"});
  // IQ4_NL is GGML's, but not ours.
  b = model_builder("llama").tensor(
      {"blk.0.ffn_up.weight", {32, 64}, 20, std::string(64 * 18, 0), 0});
  refused(b, ErrorCode::kUnsupported, {"blk.0.ffn_up.weight", "IQ4_NL"});
  b = model_builder("llama").tensor({"output_norm.weight", {32}, 8, std::string(34, 0), 0});
  refused(b, ErrorCode::kUnsupported, {"output_norm.weight", "Q8_0"});
}

TEST_CASE("the vocabulary and the embedding have one size") {
  GgufBuilder b = model_builder("llama");
  b.strings("tokenizer.ggml.tokens", std::vector<std::string>(10, "t"));
  CHECK(config_of(b).vocab == 10);
  b.strings("tokenizer.ggml.tokens", std::vector<std::string>(11, "t"));
  refused(b, ErrorCode::kMalformed, {"11 tokens", "10 rows"});
}
