#!/usr/bin/env python3
"""Writes unicode_classes.cpp. Needs the package unicodedata2==15.1.0: the version of the Unicode
character database is part of the result, so that Python's own will not do."""

import sys

import unicodedata2

WHITE_SPACE = {*range(0x09, 0x0E), 0x20, 0x85, 0xA0, 0x1680, *range(0x2000, 0x200B),
               0x2028, 0x2029, 0x202F, 0x205F, 0x3000}
CLASSES = {"L": "kL", "N": "kN", "P": "kP"}


def char_class(code_point):
    if code_point in WHITE_SPACE:
        return "kS"
    return CLASSES.get(unicodedata2.category(chr(code_point))[0], "kO")


def main():
    assert unicodedata2.unidata_version == "15.1.0"
    entries, previous = [], None
    for code_point in range(0x80, 0x110000):
        current = char_class(code_point)
        if current != previous:
            entries.append(f"{{0x{code_point:05x}, {current}}},")
            previous = current
    rows = [" ".join(entries[i:i + 7]) for i in range(0, len(entries), 7)]
    sys.stdout.write(HEAD + "\n".join("    " + row for row in rows) + TAIL)


HEAD = """// Written by unicode_classes.py from the Unicode character database, version 15.1. Do not edit.
#include <algorithm>
#include <iterator>

#include "unicode.hpp"

namespace kvferry {
namespace {

constexpr char kL = kLetterClass;
constexpr char kN = kNumberClass;
constexpr char kP = kPunctuationClass;
constexpr char kS = kSpaceClass;
constexpr char kO = kOtherClass;

struct ClassStart {
  std::uint32_t code_point;
  char char_class;
};

// Each entry holds up to the next one's code point.
// clang-format off
constexpr ClassStart kClasses[] = {
"""

TAIL = """
};
// clang-format on

}  // namespace

char class_of(std::uint32_t code_point) {
  if (code_point < 0x80) return static_cast<char>(code_point);
  const ClassStart* next =
      std::upper_bound(std::begin(kClasses), std::end(kClasses), code_point,
                       [](std::uint32_t c, const ClassStart& s) { return c < s.code_point; });
  return std::prev(next)->char_class;
}

}  // namespace kvferry
"""

if __name__ == "__main__":
    main()
