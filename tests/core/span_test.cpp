#include "kvferry/core/span.hpp"

#include <catch2/catch.hpp>

namespace kvferry {
namespace {

TEST_CASE("a span views arrays, vectors and parts of itself") {
  std::vector<int> v{1, 2, 3, 4};
  Span<int> s(v);
  CHECK(s.subspan(1, 2)[1] == 3);
  CHECK(s.subspan(4).empty());
  Span<const int> c = s;
  CHECK(c.back() == 4);
  CHECK(as_bytes(c).size() == 16);
  CHECK(as_bytes(std::string("ab"))[1] == 'b');
}

}  // namespace
}  // namespace kvferry
