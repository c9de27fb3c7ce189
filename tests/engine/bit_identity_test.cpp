#include "bit_identity.hpp"

#include <string>

#include <catch2/catch.hpp>

namespace kvferry_test {
namespace {

using namespace kvferry;

// Biases; head norms and a cache wider than the model; a YaRN scale; every kind of weights.
const char* const kModels[] = {"tiny-qwen2-q8_0", "tiny-qwen3-f16", "tiny-llama-yarn-f16",
                               "tiny-llama-256-q4_k_m", "tiny-llama-256-q5_1"};

TEST_CASE("cache and logits do not depend on chunks and threads") {
  for (const char* name : kModels) {
    CAPTURE(name);
    const ModelFile file = ModelFile::open(golden(std::string("tiny/") + name + ".gguf")).value();
    check_chunks_and_threads<path::Reference>(file, ElementType::kF32, 131);
    for (const ElementType type : {ElementType::kF16, ElementType::kBF16, ElementType::kF32}) {
      CAPTURE(name_of(type));
      check_chunks_and_threads<path::Cpu>(file, type, 131);
    }
  }
}

TEST_CASE("a batched step gives what each sequence gives alone") {
  for (const char* name : kModels) {
    CAPTURE(name);
    const ModelFile file = ModelFile::open(golden(std::string("tiny/") + name + ".gguf")).value();
    check_batched_steps<path::Reference>(file);
    check_batched_steps<path::Cpu>(file);
  }
}

}  // namespace
}  // namespace kvferry_test
