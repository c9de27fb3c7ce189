// MappedFile: a regular file mapped read-only into memory.
#pragma once

#include <memory>
#include <string>

#include "kvferry/core/result.hpp"
#include "kvferry/core/span.hpp"

namespace kvferry {

// The mapping lives as long as the object. Whoever truncates the file meanwhile makes reads of the
// missing pages fail with SIGBUS, as with every mapped file: replace model files by renaming.
class MappedFile {
 public:
  // kIo when it cannot be opened or is not a regular file (the message has the path and the
  // system's reason). An empty file gives an empty span.
  static Result<std::shared_ptr<const MappedFile>> open(const std::string& path);
  ~MappedFile();
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;

  Bytes bytes() const { return bytes_; }

 private:
  explicit MappedFile(Bytes bytes) : bytes_(bytes) {}

  Bytes bytes_;
};

}  // namespace kvferry
