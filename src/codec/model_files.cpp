// Codebooks and predictors as files.
#include <cerrno>
#include <cstring>

#include <fcntl.h>
#include <unistd.h>

#include "kvferry/codec/codebook.hpp"
#include "kvferry/codec/predictor.hpp"
#include "kvferry/core/atomic_file.hpp"
#include "kvferry/core/quoted.hpp"

namespace kvferry {
namespace {

// A codebook of the largest shape is larger, of every known model far smaller.
constexpr std::size_t kMaxCodebookBytes = 64u << 20;

// A whole file of at most `most` bytes.
Result<std::vector<std::uint8_t>> read_file(const std::string& path, std::size_t most) {
  const auto io_error = [&path](const char* what) {
    return Error(ErrorCode::kIo, std::string("cannot ") + what + " " + quoted(path, 512) + ": " +
                                     std::strerror(errno));
  };
  const int descriptor = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (descriptor < 0) return io_error("open");
  struct Closer {
    int descriptor;
    ~Closer() { ::close(descriptor); }
  } const closer{descriptor};
  std::vector<std::uint8_t> bytes;
  std::vector<std::uint8_t> piece(1u << 20);
  for (;;) {
    const ssize_t count = ::read(descriptor, piece.data(), piece.size());
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return io_error("read");
    if (count == 0) return bytes;
    if (bytes.size() + static_cast<std::size_t>(count) > most) {
      return Error(ErrorCode::kResourceExhausted,
                   quoted(path, 512) + " is larger than what it should hold can be");
    }
    bytes.insert(bytes.end(), piece.begin(), piece.begin() + count);
  }
}

template <typename T>
Result<std::shared_ptr<const T>> load_file(const std::string& path, std::size_t most,
                                           const ModelIdentity& identity) {
  KVFERRY_ASSIGN(const std::vector<std::uint8_t> bytes, read_file(path, most));
  auto parsed = T::parse(bytes);
  if (!parsed.ok())
    return Error(parsed.error().code, quoted(path, 512) + ": " + parsed.error().message);
  if ((*parsed)->model() != Codebook::model_of(identity)) {
    return Error(ErrorCode::kMismatch, quoted(path, 512) + " was made for another model");
  }
  return parsed;
}

Status save_file(const std::string& path, Bytes bytes) {
  KVFERRY_ASSIGN(AtomicFile file, AtomicFile::create(path, FileAccess::kCommon));
  KVFERRY_TRY(file.write(bytes));
  return file.commit();
}

}  // namespace

Result<std::shared_ptr<const Codebook>> Codebook::load(const std::string& path,
                                                       const ModelIdentity& identity) {
  return load_file<Codebook>(path, kMaxCodebookBytes, identity);
}

Status Codebook::save(const std::string& path) const {
  return save_file(path, bytes_);
}

Result<std::shared_ptr<const Predictor>> Predictor::load(const std::string& path,
                                                         const ModelIdentity& identity) {
  return load_file<Predictor>(path, kMaxBytes + 64, identity);
}

std::string Predictor::path_beside(const std::string& codebook) {
  const std::size_t name = codebook.rfind('/') + 1;  // 0 without a folder
  const std::size_t dot = codebook.rfind('.');
  const bool has_ending = dot != std::string::npos && dot > name;
  return (has_ending ? codebook.substr(0, dot) : codebook) + ".kvfp";
}

Status Predictor::save(const std::string& path) const {
  return save_file(path, bytes_);
}

}  // namespace kvferry
