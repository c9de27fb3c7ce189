// TemporaryFolder: a new folder, removed with all that is in it.
#pragma once

#include <cstdlib>
#include <set>
#include <string>

#include <catch2/catch.hpp>
#include <dirent.h>
#include <unistd.h>

namespace kvferry {

class TemporaryFolder {
 public:
  TemporaryFolder() {
    const char* base = std::getenv("TMPDIR");
    path_ = std::string(base == nullptr || *base == '\0' ? "/tmp" : base) + "/kvferry-test-XXXXXX";
    REQUIRE(mkdtemp(&path_[0]) != nullptr);
  }
  ~TemporaryFolder() { remove(path_); }
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;

  const std::string& path() const { return path_; }
  std::string file(const std::string& name) const { return path_ + "/" + name; }
  // Names of what is in a folder, but those that begin with a dot; none when it is not there.
  static std::set<std::string> files(const std::string& folder) {
    std::set<std::string> names;
    DIR* opened = opendir(folder.c_str());
    while (const dirent* entry = opened == nullptr ? nullptr : readdir(opened)) {
      if (entry->d_name[0] != '.') names.insert(entry->d_name);
    }
    if (opened != nullptr) closedir(opened);
    return names;
  }
  std::set<std::string> files() const { return files(path_); }

 private:
  static void remove(const std::string& folder) {
    for (const std::string& name : files(folder)) {
      const std::string path = folder + "/" + name;
      if (unlink(path.c_str()) != 0) remove(path);
    }
    rmdir(folder.c_str());
  }

  std::string path_;
};

}  // namespace kvferry
