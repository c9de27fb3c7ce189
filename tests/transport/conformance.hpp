// check_channel() as Catch2 assertions.
#pragma once

#include <catch2/catch.hpp>

#include "kvferry/testing/channel_conformance.hpp"

namespace kvferry::testing {

inline void require_conformance(const MakeChannelPair& make_pair,
                                const ConformanceOptions& options = {}) {
  for (const ConformanceCheck& check : check_channel(make_pair, options)) {
    INFO(check.name);
    CHECK(check.problems == std::vector<std::string>{});
  }
}

}  // namespace kvferry::testing
