// Where tests find SmolLM2-135M-Instruct. A test program labelled `model` is skipped as a whole
// when the file is not there, so that its test cases may take the path for granted.
#pragma once

#include <cstdlib>
#include <fstream>
#include <string>

namespace kvferry_test {

constexpr const char* kModelFile = "SmolLM2-135M-Instruct.Q4_1.gguf";

// $KVFERRY_MODEL, else the file in the cache that tests/run fills; empty when there is none.
inline std::string model_path() {
  const auto variable = [](const char* name) {
    const char* value = std::getenv(name);
    return std::string(value == nullptr ? "" : value);
  };
  std::string path = variable("KVFERRY_MODEL");
  if (path.empty()) {
    std::string cache = variable("XDG_CACHE_HOME");
    if (cache.empty()) cache = variable("HOME") + "/.cache";
    path = cache + "/kvferry/" + kModelFile;
  }
  return std::ifstream(path).good() ? path : std::string();
}

}  // namespace kvferry_test
