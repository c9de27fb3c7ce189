// Lines: what may be shown on a terminal.
#include "kvferry/wire/text.hpp"

#include <catch2/catch.hpp>

using namespace kvferry::wire;

TEST_CASE("UTF-8 and lines") {
  struct Case {
    std::string text;
    bool utf8;
    bool line;
  };
  const Case cases[] = {
      {"", true, true},
      {"plain ~", true, true},
      {"\xc3\xbc \xe2\x82\xac \xf0\x9f\x98\x80 \xc2\xa0", true, true},
      {"two\nlines", true, false},
      {std::string("nul\0", 4), true, false},
      {"\x1b[2J", true, false},
      {"\x7f", true, false},
      {"\xc2\x9b", true, false},          // C1: control sequence introducer
      {"\xc2", false, false},             // cut off
      {"\xe2\x82", false, false},         // cut off
      {"\x80", false, false},             // continuation alone
      {"\xc0\xaf", false, false},         // overlong
      {"\xed\xa0\x80", false, false},     // surrogate
      {"\xf4\x90\x80\x80", false, false}  // above U+10FFFF
  };
  for (const Case& c : cases) {
    INFO(c.text);
    CHECK(is_utf8(c.text) == c.utf8);
    CHECK(is_line(c.text) == c.line);
    CHECK(is_line(as_line(c.text, 100)));
    if (c.line) CHECK(as_line(c.text, 100) == c.text);
  }
}

TEST_CASE("A line is cut between characters") {
  const std::string text = "a\xe2\x82\xac\xe2\x82\xac";
  CHECK(as_line(text, 0).empty());
  CHECK(as_line(text, 3) == "a");
  CHECK(as_line(text, 4) == "a\xe2\x82\xac");
  CHECK(as_line(text, 6) == "a\xe2\x82\xac");
  CHECK(as_line(text, 7) == text);
  CHECK(as_line("a\n\xff"
                "b",
                9) == "a??b");
}
