#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <utility>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "kvferry/codec/codebook.hpp"
#include "kvferry/core/quoted.hpp"

namespace kvferry {
namespace {

// A codebook of the largest shape is larger, of every known model far smaller.
constexpr std::size_t kMaxFileBytes = 64u << 20;

Error io_error(const std::string& what, const std::string& path) {
  return Error(ErrorCode::kIo,
               "cannot " + what + " " + quoted(path, 512) + ": " + std::strerror(errno));
}

class File {
 public:
  explicit File(int descriptor) : descriptor_(descriptor) {}
  ~File() {
    if (descriptor_ >= 0) ::close(descriptor_);
  }
  File(const File&) = delete;
  File& operator=(const File&) = delete;

  int descriptor() const { return descriptor_; }
  // Closing may be when a network file system reports that a write failed.
  bool close() { return ::close(std::exchange(descriptor_, -1)) == 0; }

 private:
  int descriptor_;
};

Result<std::vector<std::uint8_t>> read_file(const std::string& path) {
  const File file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (file.descriptor() < 0) return io_error("open", path);
  std::vector<std::uint8_t> bytes;
  for (;;) {
    constexpr std::size_t kPiece = 64u << 10;
    const std::size_t size = bytes.size();
    if (size > kMaxFileBytes) {
      return Error(ErrorCode::kResourceExhausted,
                   quoted(path, 512) + " is larger than a codebook can be");
    }
    bytes.resize(size + kPiece);
    const ssize_t count = ::read(file.descriptor(), bytes.data() + size, kPiece);
    const int error = errno;
    bytes.resize(size + (count > 0 ? static_cast<std::size_t>(count) : 0));
    errno = error;
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return io_error("read", path);
    if (count == 0) return bytes;
  }
}

Status write_all(int descriptor, Bytes bytes, const std::string& path) {
  while (!bytes.empty()) {
    const ssize_t count = ::write(descriptor, bytes.data(), bytes.size());
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return io_error("write", path);
    bytes = bytes.subspan(static_cast<std::size_t>(count));
  }
  return {};
}

}  // namespace

Result<std::shared_ptr<const Codebook>> Codebook::load(const std::string& path,
                                                       const ModelIdentity& identity) {
  KVFERRY_ASSIGN(const std::vector<std::uint8_t> bytes, read_file(path));
  auto parsed = parse(bytes);
  if (!parsed.ok())
    return Error(parsed.error().code, quoted(path, 512) + ": " + parsed.error().message);
  if ((*parsed)->model() != model_of(identity)) {
    return Error(ErrorCode::kMismatch,
                 quoted(path, 512) + ": the codebook was made for another model");
  }
  return parsed;
}

Status Codebook::save(const std::string& path) const {
  struct stat found;
  if (::stat(path.c_str(), &found) == 0 && !S_ISREG(found.st_mode)) {
    return Error(ErrorCode::kInvalidArgument,
                 quoted(path, 512) + " is not a regular file; a codebook is saved to one");
  }
  std::string name = path + ".XXXXXX";
  File file(::mkostemp(&name[0], O_CLOEXEC));
  if (file.descriptor() < 0) return io_error("create a file beside", path);
  const Status written = [&]() -> Status {
    KVFERRY_TRY(write_all(file.descriptor(), bytes_, path));
    // Made for its owner alone, but a codebook is no secret.
    if (::fchmod(file.descriptor(), 0644) != 0 || ::fsync(file.descriptor()) != 0 || !file.close())
      return io_error("write", path);
    if (::rename(name.c_str(), path.c_str()) != 0) return io_error("rename a file to", path);
    return {};
  }();
  if (!written.ok()) ::unlink(name.c_str());
  return written;
}

}  // namespace kvferry
