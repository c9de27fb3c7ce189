// Writes the golden files of the wire format: make_golden FOLDER, where FOLDER has the folders
// good, bad and session. To be run when version 1 gets something new; what exists must not change.
#include <cstdio>
#include <fstream>

#include "golden_files.hpp"

int main(int argc, char** argv) {
  if (argc != 2) {
    std::fprintf(stderr, "usage: make_golden FOLDER\n");
    return 2;
  }
  const std::string folder = std::string(argv[1]) + "/";
  bool written = true;
  const auto write = [&](const std::string& name, const char* data, std::size_t size) {
    std::ofstream out(folder + name, std::ios::binary);
    out.write(data, static_cast<std::streamsize>(size));
    out.close();
    if (!out) std::fprintf(stderr, "error: cannot write %s%s\n", folder.c_str(), name.c_str());
    written = written && out.good();
  };
  for (const auto& files : {kvferry_test::golden_good_frames(), kvferry_test::golden_bad_frames(),
                            kvferry_test::golden_sessions()}) {
    for (const kvferry_test::GoldenFile& file : files)
      write(file.name, reinterpret_cast<const char*>(file.bytes.data()), file.bytes.size());
  }
  const std::string manifest = kvferry_test::golden_manifest();
  write("manifest.json", manifest.data(), manifest.size());
  return written ? 0 : 1;
}
