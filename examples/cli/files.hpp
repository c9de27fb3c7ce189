// Files as the programs read and write them.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "kvferry/cache/source_sink.hpp"
#include "kvferry/core/result.hpp"
#include "kvferry/core/span.hpp"

namespace kvferry::cli {

// A whole file, or standard input for "-". Error kIo with the path.
Result<std::string> read_file(const std::string& path);

// A JSON array of token ids below `vocab`. Errors name the file and the element.
Result<std::vector<TokenId>> read_ids(const std::string& path, std::uint32_t vocab);

// Writes a file so that it appears whole or not at all: a temporary file beside it, then a rename.
// Destroyed without commit() it leaves nothing.
class AtomicFile {
 public:
  static Result<AtomicFile> create(const std::string& path);
  AtomicFile(AtomicFile&& other) noexcept;
  AtomicFile& operator=(AtomicFile&&) = delete;
  ~AtomicFile();

  Status write(Bytes bytes);
  Status commit();

 private:
  AtomicFile(std::string path, std::string temporary, int descriptor);

  std::string path_;
  std::string temporary_;
  int descriptor_;  // -1 once committed or moved from
};

}  // namespace kvferry::cli
