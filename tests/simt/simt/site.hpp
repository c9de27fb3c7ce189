// Site: the line of a kernel's source on which a device function is called. C++14.
#pragma once

#include <cstring>

namespace simt {

// Taken as a default argument, `Site site = Site::here()`, it names the caller's line. (The return
// address would not do: a compiler may copy one call to several places.)
struct Site {
  const char* file;
  int line;

  static constexpr Site here(const char* file = __builtin_FILE(), int line = __builtin_LINE()) {
    return Site{file, line};
  }
};

inline bool operator==(const Site& a, const Site& b) {
  return a.line == b.line && (a.file == b.file || std::strcmp(a.file, b.file) == 0);
}
inline bool operator!=(const Site& a, const Site& b) {
  return !(a == b);
}

}  // namespace simt
