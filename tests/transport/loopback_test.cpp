#include "kvferry/transport/loopback.hpp"

#include <catch2/catch.hpp>

#include "tests/transport/conformance.hpp"

using namespace kvferry;

TEST_CASE("the loopback is a channel") {
  testing::require_conformance([] { return make_loopback(); });
}

TEST_CASE("a loopback of a few bytes is a channel") {
  testing::ConformanceOptions options;
  options.transfer_bytes = 50000;
  options.buffer_bound = 50000;
  testing::require_conformance([] { return make_loopback(7); }, options);
}
