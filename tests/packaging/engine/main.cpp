// A prompt of three tokens through a GGUF model with kvferry::engine: program MODEL
#include <cmath>
#include <cstdio>
#include <vector>

#include "kvferry/engine/engine.hpp"

namespace {

kvferry::Status run(const char* path) {
  KVFERRY_ASSIGN(const kvferry::ModelFile file, kvferry::ModelFile::open(path));
  KVFERRY_ASSIGN(const auto engine, kvferry::Engine::load(file));
  KVFERRY_ASSIGN(const auto pool, kvferry::KvPool::create(engine->geometry(), 4));
  const auto sequence = kvferry::KvSequence::create(pool);

  const std::vector<kvferry::TokenId> tokens = {1, 2, 3};
  std::vector<float> logits(engine->config().vocab);
  kvferry::PrefillRequest request;
  request.tokens = tokens;
  request.logits = logits;
  KVFERRY_TRY(engine->prefill(request, *sequence));
  if (sequence->length() != tokens.size() || !std::isfinite(logits[0])) {
    return {kvferry::ErrorCode::kMismatch, "the prompt did not give logits"};
  }
  return {};
}

}  // namespace

int main(int argc, char** argv) {
  const kvferry::Status status = run(argc > 1 ? argv[1] : "");
  if (!status.ok()) std::fprintf(stderr, "error: %s\n", status.error().message.c_str());
  return status.ok() ? 0 : 1;
}
