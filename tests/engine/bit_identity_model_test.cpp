#include <catch2/catch.hpp>

#include "bit_identity.hpp"
#include "tests/support/model.hpp"

namespace kvferry_test {
namespace {

using namespace kvferry;

TEST_CASE("SmolLM2: cache and logits do not depend on chunks and threads") {
  const ModelFile file = ModelFile::open(model_path()).value();
  check_chunks_and_threads<path::Cpu>(file, ElementType::kF16, 140);
  check_chunks_and_threads<path::Reference>(file, ElementType::kF32, 40);
}

TEST_CASE("SmolLM2: a batched step gives what each sequence gives alone") {
  const ModelFile file = ModelFile::open(model_path()).value();
  check_batched_steps<path::Cpu>(file);
  check_batched_steps<path::Reference>(file);
}

}  // namespace
}  // namespace kvferry_test
