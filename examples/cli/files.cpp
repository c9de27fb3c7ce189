#include "files.hpp"

#include <cerrno>
#include <cstring>

#include <fcntl.h>
#include <nlohmann/json.hpp>
#include <poll.h>
#include <sys/stat.h>
#include <unistd.h>

#include "kvferry/core/deadline.hpp"
#include "kvferry/core/quoted.hpp"

#include "interrupt.hpp"

namespace kvferry::cli {
namespace {

Error io_error(const char* doing, const std::string& path) {
  return Error(ErrorCode::kIo, std::string("cannot ") + doing + " " + quoted(path, 512) + ": " +
                                   std::strerror(errno));
}

// A descriptor that is closed with its owner.
class Input {
 public:
  // A pipe without a writer is opened too; reading waits for it, where it can be interrupted.
  explicit Input(const std::string& path)
      : descriptor_(path == "-" ? STDIN_FILENO
                                : ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK)) {}
  ~Input() {
    if (descriptor_ > STDIN_FILENO) ::close(descriptor_);
  }
  Input(const Input&) = delete;
  Input& operator=(const Input&) = delete;
  int descriptor() const { return descriptor_; }

 private:
  const int descriptor_;
};

// Waits until there is something to read, or the end.
Status wait_for_input(int descriptor, const std::string& path) {
  for (;;) {
    if (interrupted()) return Error(ErrorCode::kCancelled, "cancelled");
    pollfd input{descriptor, POLLIN, 0};
    const int ready = ::poll(&input, 1, static_cast<int>(kCancelPoll.count()));
    if (ready > 0) return {};
    if (ready < 0 && errno != EINTR) return io_error("read", path);
  }
}

}  // namespace

Result<std::string> read_file(const std::string& path) {
  const Input input(path);
  if (input.descriptor() < 0) return io_error("read", path);
  std::string text;
  std::vector<char> buffer(64 * 1024);
  for (;;) {
    KVFERRY_TRY(wait_for_input(input.descriptor(), path));
    const ssize_t count = ::read(input.descriptor(), buffer.data(), buffer.size());
    if (count < 0 && (errno == EINTR || errno == EAGAIN)) continue;
    if (count < 0) return io_error("read", path);
    if (count == 0) return text;
    if (text.size() + static_cast<std::size_t>(count) > kMaxInputBytes) {
      return Error(ErrorCode::kResourceExhausted,
                   (path == "-" ? std::string("standard input") : quoted(path, 512)) +
                       " has more than " + std::to_string(kMaxInputBytes >> 20) + " MiB");
    }
    text.append(buffer.data(), static_cast<std::size_t>(count));
  }
}

Status check_output(const std::string& path, const std::vector<std::string>& inputs) {
  const std::size_t slash = path.rfind('/');
  const std::string folder = slash == std::string::npos ? "." : path.substr(0, slash + 1);
  if (::access(folder.c_str(), W_OK | X_OK) != 0) return io_error("write into the folder", folder);
  struct stat output;
  if (::stat(path.c_str(), &output) != 0) return {};
  for (const std::string& name : inputs) {
    struct stat input;
    if (name.empty() || ::stat(name.c_str(), &input) != 0) continue;
    if (input.st_dev == output.st_dev && input.st_ino == output.st_ino) {
      return Error(ErrorCode::kInvalidArgument,
                   quoted(path, 512) + " is an input of this command; write to another file");
    }
  }
  return {};
}

Status commit_all(std::vector<AtomicFile>& files) {
  for (std::size_t i = 0; i < files.size(); ++i) {
    Status committed = files[i].commit();
    if (committed.ok()) continue;
    for (std::size_t k = 0; k < i; ++k) ::unlink(files[k].path().c_str());
    return committed;
  }
  return {};
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

}  // namespace kvferry::cli
