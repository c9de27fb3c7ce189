// The main of every test program: Catch2's, with three exit codes: 0 passed, 1 failed, 77 skipped.
#define CATCH_CONFIG_RUNNER
#include <cstdio>

#include <catch2/catch.hpp>

#include "tests/support/model.hpp"

int main(int argc, char** argv) {
#ifdef KVFERRY_TEST_NEEDS_MODEL
  if (kvferry_test::model_path().empty()) {
    std::printf(
        "skipped: needs %s: set KVFERRY_MODEL to its path, or run tests/run, which fetches it\n",
        kvferry_test::kModelFile);
    return 77;
  }
#endif
  return Catch::Session().run(argc, argv) == 0 ? 0 : 1;
}
