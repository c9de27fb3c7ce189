// BlockCoverage against a plain table of rows.
#include "kvferry/wire/coverage.hpp"

#include <random>

#include <catch2/catch.hpp>

using namespace kvferry;
using kvferry::wire::BlockCoverage;

TEST_CASE("Random claims are accepted exactly when no row came before") {
  std::mt19937 random(99);
  constexpr std::uint32_t kLayers = 2, kTokens = 40;
  for (int round = 0; round < 200; ++round) {
    BlockCoverage coverage;
    bool seen[kLayers][2][kTokens] = {};
    std::uint32_t missing = kLayers * 2 * kTokens;
    while (missing > 0) {
      KvRange range;
      range.layer = static_cast<std::uint32_t>(random() % kLayers);
      range.plane = random() % 2 == 0 ? Plane::kKey : Plane::kValue;
      range.begin = static_cast<std::uint32_t>(random() % kTokens);
      range.end = range.begin + 1 +
                  static_cast<std::uint32_t>(random() % std::min(6u, kTokens - range.begin));
      bool* rows = seen[range.layer][range.plane == Plane::kKey ? 0 : 1];
      bool fresh = true;
      for (std::uint32_t t = range.begin; t < range.end; ++t) fresh = fresh && !rows[t];
      const Status claimed = coverage.claim(range);
      REQUIRE(claimed.ok() == fresh);
      if (!fresh) {
        REQUIRE(claimed.error().code == ErrorCode::kProtocol);
        continue;
      }
      for (std::uint32_t t = range.begin; t < range.end; ++t) rows[t] = true;
      missing -= range.tokens();
      REQUIRE(coverage.complete(kLayers, kTokens).ok() == (missing == 0));
    }
  }
}

TEST_CASE("The first missing row is named") {
  BlockCoverage coverage;
  CHECK(coverage.claim({0, Plane::kKey, 0, 10}).ok());
  CHECK(coverage.claim({0, Plane::kValue, 5, 10}).ok());
  CHECK(coverage.claim({0, Plane::kValue, 0, 3}).ok());
  const Status status = coverage.complete(1, 10);
  REQUIRE_FALSE(status.ok());
  CHECK(status.error().code == ErrorCode::kIncomplete);
  CHECK(status.error().message.find("layer 0 V token 3") != std::string::npos);
}
