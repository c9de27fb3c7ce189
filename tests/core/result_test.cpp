#include "kvferry/core/result.hpp"

#include <memory>

#include <catch2/catch.hpp>

namespace kvferry {
namespace {

Result<int> parse(bool good) {
  if (!good) return Error(ErrorCode::kMalformed, "byte 3: bad");
  return 7;
}

Status check(bool good) {
  KVFERRY_ASSIGN(const int x, parse(good));
  if (x != 7) return Error(ErrorCode::kInternal, "not seven");
  KVFERRY_TRY(Status());
  return {};
}

TEST_CASE("a result holds a value or an error") {
  CHECK(*parse(true) == 7);
  CHECK(parse(false).error().code == ErrorCode::kMalformed);
  CHECK_THROWS_AS(parse(false).value(), Exception);
  CHECK(check(true).ok());
  CHECK(check(false).error().message == "byte 3: bad");
}

TEST_CASE("a result carries types that only move") {
  Result<std::unique_ptr<int>> r(std::make_unique<int>(5));
  std::unique_ptr<int> p = *std::move(r);
  CHECK(*p == 5);
}

}  // namespace
}  // namespace kvferry
