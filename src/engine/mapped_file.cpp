#include "kvferry/engine/mapped_file.hpp"

#include <cerrno>
#include <cstdint>
#include <cstring>
#include <limits>

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "kvferry/core/quoted.hpp"

namespace kvferry {
namespace {

Error io_error(const std::string& path, const std::string& reason) {
  return Error(ErrorCode::kIo, "cannot open " + quoted(path, 400) + ": " + reason);
}

struct Descriptor {
  int fd;
  ~Descriptor() {
    if (fd >= 0) ::close(fd);
  }
};

}  // namespace

Result<std::shared_ptr<const MappedFile>> MappedFile::open(const std::string& path) {
  // Without O_NONBLOCK opening a named pipe would wait for a writer.
  const Descriptor file{::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK)};
  if (file.fd < 0) return io_error(path, std::strerror(errno));
  struct stat info;
  if (::fstat(file.fd, &info) != 0) return io_error(path, std::strerror(errno));
  if (!S_ISREG(info.st_mode)) return io_error(path, "not a regular file");
  const auto size = static_cast<std::uint64_t>(info.st_size);
  if (size > std::numeric_limits<std::size_t>::max()) {
    return io_error(path, "too large for this machine's address space");
  }
  Bytes bytes;
  if (size > 0) {
    void* const memory =
        ::mmap(nullptr, static_cast<std::size_t>(size), PROT_READ, MAP_PRIVATE, file.fd, 0);
    if (memory == MAP_FAILED) return io_error(path, std::strerror(errno));
    bytes = Bytes(static_cast<const std::uint8_t*>(memory), static_cast<std::size_t>(size));
  }
  return std::shared_ptr<const MappedFile>(new MappedFile(bytes));
}

MappedFile::~MappedFile() {
  if (!bytes_.empty()) ::munmap(const_cast<std::uint8_t*>(bytes_.data()), bytes_.size());
}

}  // namespace kvferry
