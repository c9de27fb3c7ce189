// Runs files through a fuzz target once each: what a build without libFuzzer tests. Arguments are
// files, or folders whose files are all taken.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include <dirent.h>
#include <sys/stat.h>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);

namespace {

// The files of a folder, sorted; a file is its own list. Empty when there is no such path.
std::vector<std::string> files_of(const std::string& path) {
  DIR* folder = opendir(path.c_str());
  if (folder == nullptr) {
    return std::ifstream(path).good() ? std::vector<std::string>{path} : std::vector<std::string>{};
  }
  std::vector<std::string> files;
  while (const dirent* entry = readdir(folder)) {
    const std::string file = path + "/" + entry->d_name;
    struct stat status;
    if (stat(file.c_str(), &status) == 0 && S_ISREG(status.st_mode)) files.push_back(file);
  }
  closedir(folder);
  std::sort(files.begin(), files.end());
  return files;
}

}  // namespace

int main(int argc, char** argv) {
  for (int i = 1; i < argc; ++i) {
    const std::vector<std::string> files = files_of(argv[i]);
    if (files.empty()) {
      std::fprintf(stderr, "no corpus file at %s\n", argv[i]);
      return 1;
    }
    for (const std::string& file : files) {
      std::ifstream in(file, std::ios::binary);
      const std::vector<char> bytes((std::istreambuf_iterator<char>(in)),
                                    std::istreambuf_iterator<char>());
      std::printf("%s: %zu bytes\n", file.c_str(), bytes.size());
      std::fflush(stdout);
      LLVMFuzzerTestOneInput(reinterpret_cast<const std::uint8_t*>(bytes.data()), bytes.size());
    }
  }
  return 0;
}
