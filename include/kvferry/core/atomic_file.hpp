// AtomicFile: a file that appears whole, under its name, or not at all.
#pragma once

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <string>
#include <utility>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "kvferry/core/quoted.hpp"
#include "kvferry/core/result.hpp"
#include "kvferry/core/span.hpp"

namespace kvferry {

enum class FileAccess {
  kOwner,   // its owner alone reads and writes it
  kCommon,  // as the process's umask says
};

// Written beside `path` under another name, renamed once all of it is on the disk; it replaces a
// file that was there. Destroyed without commit() it leaves nothing.
//
// Errors: kIo with the path; kInvalidArgument when `path` is there and is not a regular file.
class AtomicFile {
 public:
  static Result<AtomicFile> create(const std::string& path, FileAccess access) {
    struct stat found;
    if (::stat(path.c_str(), &found) == 0 && !S_ISREG(found.st_mode)) {
      return Error(ErrorCode::kInvalidArgument, quoted(path, 512) + " is not a regular file");
    }
    std::string temporary = path + ".XXXXXX";
    const int descriptor = ::mkostemp(&temporary[0], O_CLOEXEC);
    if (descriptor < 0) return io_error("create a file beside", path);
    AtomicFile file(path, std::move(temporary), descriptor);
    if (access == FileAccess::kCommon) {
      const mode_t mask = ::umask(0);
      ::umask(mask);
      if (::fchmod(descriptor, 0666 & ~mask) != 0) return io_error("write", path);
    }
    return file;
  }

  AtomicFile(AtomicFile&& other) noexcept
      : path_(std::move(other.path_)),
        temporary_(std::exchange(other.temporary_, std::string())),
        descriptor_(std::exchange(other.descriptor_, -1)) {}
  AtomicFile& operator=(AtomicFile&&) = delete;
  ~AtomicFile() {
    if (descriptor_ >= 0) ::close(descriptor_);
    if (!temporary_.empty()) ::unlink(temporary_.c_str());
  }

  const std::string& path() const { return path_; }

  Status write(Bytes bytes) {
    while (!bytes.empty()) {
      const ssize_t count = ::write(descriptor_, bytes.data(), bytes.size());
      if (count < 0 && errno == EINTR) continue;
      if (count < 0) return io_error("write", path_);
      bytes = bytes.subspan(static_cast<std::size_t>(count));
    }
    return {};
  }

  // Once, after the last write.
  Status commit() {
    // Closing may be when a network file system reports that a write failed.
    if (::fsync(descriptor_) != 0 || ::close(std::exchange(descriptor_, -1)) != 0) {
      return io_error("write", path_);
    }
    if (::rename(temporary_.c_str(), path_.c_str()) != 0)
      return io_error("rename a file to", path_);
    temporary_.clear();
    // The file is in place; this makes its name survive a power cut. Some file systems cannot.
    const int folder = ::open(folder_of(path_).c_str(), O_RDONLY | O_CLOEXEC);
    if (folder >= 0) {
      ::fsync(folder);
      ::close(folder);
    }
    return {};
  }

 private:
  AtomicFile(std::string path, std::string temporary, int descriptor)
      : path_(std::move(path)), temporary_(std::move(temporary)), descriptor_(descriptor) {}

  static Error io_error(const char* what, const std::string& path) {
    return Error(ErrorCode::kIo, std::string("cannot ") + what + " " + quoted(path, 512) + ": " +
                                     std::strerror(errno));
  }
  static std::string folder_of(const std::string& path) {
    const std::size_t slash = path.rfind('/');
    if (slash == std::string::npos) return ".";
    return slash == 0 ? "/" : path.substr(0, slash);
  }

  std::string path_;
  std::string temporary_;  // empty once renamed or moved from
  int descriptor_;         // -1 once closed or moved from
};

}  // namespace kvferry
