#include "files.hpp"

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <iostream>
#include <iterator>
#include <sstream>
#include <utility>

#include <nlohmann/json.hpp>
#include <sys/stat.h>
#include <unistd.h>

namespace kvferry::cli {
namespace {

Error io_error(const std::string& doing, const std::string& path) {
  return Error(ErrorCode::kIo, "cannot " + doing + " " + path + ": " + std::strerror(errno));
}

}  // namespace

Result<std::string> read_file(const std::string& path) {
  std::ostringstream text;
  if (path == "-") {
    text << std::cin.rdbuf();
    return text.str();
  }
  std::ifstream file(path, std::ios::binary);
  if (!file) return io_error("read", path);
  if (file.peek() != std::ifstream::traits_type::eof()) text << file.rdbuf();
  if (file.bad() || text.fail()) return io_error("read", path);
  return text.str();
}

Result<std::vector<TokenId>> read_ids(const std::string& path, std::uint32_t vocab) {
  KVFERRY_ASSIGN(const std::string text, read_file(path));
  const auto json = nlohmann::json::parse(text, nullptr, false);
  if (!json.is_array()) {
    return Error(ErrorCode::kMalformed, path + ": expected a JSON array of token ids");
  }
  if (json.empty())
    return Error(ErrorCode::kInvalidArgument, path + ": there is no token id in it");
  std::vector<TokenId> ids;
  ids.reserve(json.size());
  for (const auto& element : json) {
    if (!element.is_number_unsigned() || element.get<std::uint64_t>() >= vocab) {
      return Error(ErrorCode::kInvalidArgument, path + ": element " + std::to_string(ids.size()) +
                                                    " is not a token id of this model (0 to " +
                                                    std::to_string(vocab - 1) + ")");
    }
    ids.push_back(element.get<TokenId>());
  }
  return ids;
}

Result<AtomicFile> AtomicFile::create(const std::string& path) {
  struct stat found;
  if (::stat(path.c_str(), &found) == 0 && !S_ISREG(found.st_mode)) {
    return Error(ErrorCode::kInvalidArgument, path + " is there and is not a regular file");
  }
  std::string temporary = path + ".XXXXXX";
  const int descriptor = ::mkstemp(&temporary[0]);
  if (descriptor < 0) return io_error("write", path);
  const mode_t mask = ::umask(0);  // the rights that any new file of this user has
  ::umask(mask);
  ::fchmod(descriptor, 0666 & ~mask);
  return AtomicFile(path, std::move(temporary), descriptor);
}

AtomicFile::AtomicFile(std::string path, std::string temporary, int descriptor)
    : path_(std::move(path)), temporary_(std::move(temporary)), descriptor_(descriptor) {}

AtomicFile::AtomicFile(AtomicFile&& other) noexcept
    : path_(std::move(other.path_)),
      temporary_(std::move(other.temporary_)),
      descriptor_(std::exchange(other.descriptor_, -1)) {}

AtomicFile::~AtomicFile() {
  if (descriptor_ < 0) return;
  ::close(descriptor_);
  ::unlink(temporary_.c_str());
}

Status AtomicFile::write(Bytes bytes) {
  while (!bytes.empty()) {
    const ssize_t written = ::write(descriptor_, bytes.data(), bytes.size());
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) return io_error("write", path_);
    bytes = bytes.subspan(static_cast<std::size_t>(written));
  }
  return {};
}

Status AtomicFile::commit() {
  if (::fsync(descriptor_) != 0) return io_error("write", path_);
  if (::rename(temporary_.c_str(), path_.c_str()) != 0) return io_error("replace", path_);
  ::close(descriptor_);
  descriptor_ = -1;
  return {};
}

}  // namespace kvferry::cli
