// The golden files of the wire format, made from the code: make_golden.cpp writes them, the tests
// compare them with the committed ones.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "kvferry/core/error.hpp"

namespace kvferry_test {

struct GoldenFile {
  std::string name;  // "good/hello.frame"
  std::vector<std::uint8_t> bytes;
  std::optional<kvferry::ErrorCode> error;  // what it must be refused with; absent: it is good
  std::string why;                          // what is wrong with it
};

// Good frames, one of each type and some of the framing itself.
std::vector<GoldenFile> golden_good_frames();
// Frames whose framing is bad, and frames whose message is.
std::vector<GoldenFile> golden_bad_frames();
// Whole sessions, good and bad.
std::vector<GoldenFile> golden_sessions();

// manifest.json: the files above with what they hold or why they are refused.
std::string golden_manifest();

}  // namespace kvferry_test
