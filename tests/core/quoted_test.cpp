#include "kvferry/core/quoted.hpp"

#include <string>

#include <catch2/catch.hpp>

using namespace kvferry;

TEST_CASE("plain text and UTF-8 pass") {
  CHECK(quoted("") == "\"\"");
  CHECK(quoted("abc 123 ~") == "\"abc 123 ~\"");
  CHECK(quoted("caf\xc3\xa9 \xe2\x82\xac \xf0\x9f\x9a\xa2") ==
        "\"caf\xc3\xa9 \xe2\x82\xac \xf0\x9f\x9a\xa2\"");
}

TEST_CASE("what could control a terminal or break a line is escaped") {
  CHECK(quoted("a\nb\tc") == "\"a\\nb\\tc\"");
  CHECK(quoted("say \"\\\"") == "\"say \\\"\\\\\\\"\"");
  CHECK(quoted(std::string("\0\x1b\x7f\r", 4)) == "\"\\x00\\x1b\\x7f\\x0d\"");
  CHECK(quoted("\xc2\x9b") == "\"\\xc2\\x9b\"");
  CHECK(quoted("\xc2\xa0") == "\"\xc2\xa0\"");
}

TEST_CASE("invalid UTF-8 is escaped byte by byte") {
  CHECK(quoted("\x80") == "\"\\x80\"");
  CHECK(quoted("\xc0\xaf") == "\"\\xc0\\xaf\"");
  CHECK(quoted("\xe0\x80\x80") == "\"\\xe0\\x80\\x80\"");
  CHECK(quoted("\xed\xa0\x80") == "\"\\xed\\xa0\\x80\"");
  CHECK(quoted("\xf4\x90\x80\x80") == "\"\\xf4\\x90\\x80\\x80\"");
  CHECK(quoted("\xf5\xff") == "\"\\xf5\\xff\"");
  CHECK(quoted("a\xe2\x82") == "\"a\\xe2\\x82\"");
  CHECK(quoted("\xf0\x9f\x9a") == "\"\\xf0\\x9f\\x9a\"");
}

TEST_CASE("long text is cut between characters") {
  CHECK(quoted("abcdef", 6) == "\"abcdef\"");
  CHECK(quoted("abcdef", 5) == "\"abcde…\"");
  CHECK(quoted("ab\xe2\x82\xac", 4) == "\"ab…\"");
  CHECK(quoted("\xe2\x82\xac", 2) == "\"…\"");
  CHECK(quoted("x", 0) == "\"…\"");
}
