// path::AmpereInt8 on the emulated device, through the engine: whole models, small and real.
#include <cstdio>

#include <catch2/catch.hpp>

#include "kvferry/compute/ampere_path.hpp"
#include "kvferry/quality/divergence.hpp"

#include "tests/engine/model_run.hpp"

using namespace kvferry;
using namespace kvferry_test;

TEST_CASE("tiny models agree with the reference path") {
  const ModelFile file = ModelFile::open(golden("tiny/tiny-llama.gguf")).value();
}
