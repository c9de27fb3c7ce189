#include "kvferry/engine/decode.hpp"

#include <string>
#include <vector>

#include <catch2/catch.hpp>

#include "kvferry/engine/engine.hpp"

#include "bit_identity.hpp"
#include "model_run.hpp"

namespace kvferry_test {
namespace {

using namespace kvferry;

ModelFile tiny(const std::string& name) {
  return ModelFile::open(golden("tiny/" + name + ".gguf")).value();
}

TEST_CASE("a failed step leaves every sequence as it was") {
  const ModelFile file = tiny("tiny-llama-256-q4_0");
  ModelRun<path::Cpu> run(file, 1);
  const std::uint32_t vocab = run.config().vocab;
  const auto a = run.sequence();
  const auto b = run.sequence();
  run.prefill_logits(random_tokens(32, vocab, 1), 1, 64, *a);  // its next token needs a block
  run.prefill_logits(random_tokens(64, vocab, 2), 1, 64, *b);  // and so does this one's
  std::vector<float> logits(2 * std::size_t{vocab});
  const auto check = [&](const std::vector<DecodeInput>& inputs, Span<float> out, ErrorCode code,
                         const std::string& part) {
    const Status status = run.step(inputs, out);
    REQUIRE(!status.ok());
    CAPTURE(status.error().message);
    CHECK(status.error().code == code);
    CHECK(status.error().message.find(part) != std::string::npos);
    CHECK(a->length() == 32);
    CHECK(b->length() == 64);
  };
  check({}, {}, ErrorCode::kInvalidArgument, "decode");
  check({{a.get(), 1}}, logits, ErrorCode::kInvalidArgument, "logits");
  check({{a.get(), 1}, {b.get(), vocab}}, logits, ErrorCode::kInvalidArgument, "vocabulary");
  check({{a.get(), 1}, {a.get(), 2}}, logits, ErrorCode::kProtocol, "append is open");
  {
    const auto taken = run.pool()->allocate(run.pool()->free_blocks() - 1).value();
    check({{a.get(), 1}, {b.get(), 1}}, logits, ErrorCode::kResourceExhausted, "blocks");
  }
  run.step({{a.get(), 1}, {b.get(), 1}}, logits).value();
  CHECK(a->length() == 33);
  CHECK(b->length() == 65);
}

TEST_CASE("decoding ends at the model's context") {
  const ModelFile file = tiny("tiny-llama-256-q4_0");
  ModelRun<path::Cpu> run(file, 2);
  const std::uint32_t context = run.config().context_length;
  const auto pool =
      KvPool::create(geometry_of(run.config(), ElementType::kF16), KvPool::blocks_for(context) + 1)
          .value();
  const auto sequence = KvSequence::create(pool);
  run.prefill_logits(random_tokens(context - 1, run.config().vocab, 1), 1, 256, *sequence);
  std::vector<float> logits(run.config().vocab);
  run.step({{sequence.get(), 1}}, logits).value();
  const Status status = run.step({{sequence.get(), 1}}, logits);
  REQUIRE(!status.ok());
  CHECK(status.error().code == ErrorCode::kResourceExhausted);
  CHECK(status.error().message.find("context") != std::string::npos);
  CHECK(sequence->length() == context);
}

TEST_CASE("sequences that share a prefix go their own ways") {
  const ModelFile file = tiny("tiny-qwen2-q8_0");
  ModelRun<path::Cpu> run(file, 2);
  const std::uint32_t vocab = run.config().vocab;
  const std::vector<TokenId> prompt = random_tokens(45, vocab, 8);
  const auto a = run.sequence();
  run.prefill_logits(prompt, 1, 64, *a);
  const auto b = a->fork(40).value();
  std::vector<float> logits(2 * std::size_t{vocab});
  run.step({{a.get(), 3}, {b.get(), 4}}, logits).value();

  for (const auto& [length, token, row] :
       {std::tuple<std::size_t, TokenId, std::size_t>{45, 3, 0}, {40, 4, 1}}) {
    std::vector<TokenId> tokens(prompt.begin(), prompt.begin() + static_cast<long>(length));
    tokens.push_back(token);
    const auto fresh = run.sequence();
    const std::vector<float> expected = run.prefill_logits(tokens, 1, 64, *fresh);
    CHECK(std::memcmp(expected.data(), logits.data() + row * vocab, vocab * sizeof(float)) == 0);
    CHECK((cache_bytes(*fresh) == cache_bytes(row == 0 ? *a : *b)));
  }
}

TEST_CASE("an engine runs the path that it was asked for") {
  const ModelFile file = tiny("tiny-llama-256-q8_0");
  CHECK((engine_paths() == std::vector<std::string>{"cpu", "reference"}));
  for (const std::string& name : engine_paths()) {
    EngineOptions options;
    options.path = name;
    options.threads = 2;
    const std::unique_ptr<Engine> engine = Engine::load(file, options).value();
    CHECK(engine->path() == name);
    CHECK(engine->geometry().type == (name == "cpu" ? ElementType::kF16 : ElementType::kF32));
    const auto pool = KvPool::create(engine->geometry(), 8).value();
    const auto sequence = KvSequence::create(pool);
    const std::vector<TokenId> tokens = {1, 2, 3};
    std::vector<float> logits(engine->config().vocab), after(engine->config().vocab);
    PrefillRequest request;
    request.tokens = tokens;
    request.logits = logits;
    engine->prefill(request, *sequence).value();
    const DecodeInput input{sequence.get(), 7};
    engine->step(Span<const DecodeInput>(&input, 1), after).value();
    CHECK((sequence->tokens() == std::vector<TokenId>{1, 2, 3, 7}));
    CHECK(!same_bits(logits, after));
  }
  EngineOptions options;
  options.path = "tpu";
  const auto none = Engine::load(file, options);
  REQUIRE(!none.ok());
  CHECK(none.error().code == ErrorCode::kNotFound);
  CHECK(none.error().message.find("'tpu'") != std::string::npos);
  CHECK(none.error().message.find("cpu, reference") != std::string::npos);
}

}  // namespace
}  // namespace kvferry_test
