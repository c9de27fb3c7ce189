// Sessions in files: a sequence's cache saved and loaded (format: wire/session.hpp).
#pragma once

#include <cerrno>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <string>
#include <utility>
#include <vector>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "kvferry/cache/source_sink.hpp"
#include "kvferry/core/quoted.hpp"
#include "kvferry/core/result.hpp"
#include "kvferry/wire/session.hpp"

namespace kvferry {

// Saves `source` to `path`, readable by its owner alone. The file appears whole, replacing one that
// was there, or not at all: it is written beside `path` under another name and renamed when all of
// it is on the disk. kIo names the file; kInvalidArgument when `path` is not a regular file.
Status save_session(const std::string& path, const KvSource& source, const wire::Offer& offer);

// Loads a session into the sink that `open` gives for its offer, as one import: on any error the
// sink is as before. `identity` is that of the model that will use the cache.
Result<KvCommit> load_session(const std::string& path, const ModelIdentity& identity,
                              wire::SessionImport::Open open);

// What a session file holds.
struct SessionSummary {
  wire::Offer offer;
  std::uint64_t blocks = 0;
  std::uint64_t payload_bytes = 0;  // of the blocks
  std::uint64_t file_bytes = 0;
};

// Reads the whole file and checks everything but the coded rows, which need the model's geometry.
Result<SessionSummary> inspect_session(const std::string& path);

namespace detail {

// A file descriptor that is closed with its owner.
class SessionFile {
 public:
  explicit SessionFile(int descriptor) : descriptor_(descriptor) {}
  ~SessionFile() {
    if (descriptor_ >= 0) ::close(descriptor_);
  }
  SessionFile(const SessionFile&) = delete;
  SessionFile& operator=(const SessionFile&) = delete;

  int descriptor() const { return descriptor_; }
  // Closing may be when a network file system reports that a write failed.
  bool close() { return ::close(std::exchange(descriptor_, -1)) == 0; }

 private:
  int descriptor_;
};

inline Error session_io_error(const std::string& what, const std::string& path) {
  return Error(ErrorCode::kIo,
               "cannot " + what + " " + quoted(path, 512) + ": " + std::strerror(errno));
}

inline std::string folder_of(const std::string& path) {
  const std::size_t slash = path.rfind('/');
  if (slash == std::string::npos) return ".";
  return slash == 0 ? "/" : path.substr(0, slash);
}

// Feeds a file to `reader`; its errors name the file.
inline Result<std::uint64_t> read_session(const std::string& path, wire::SessionReader& reader) {
  SessionFile file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (file.descriptor() < 0) return session_io_error("open", path);
  const auto named = [&path](const Error& error) {
    return Error(error.code, quoted(path, 512) + ": " + error.message);
  };
  std::vector<std::uint8_t> buffer(256 * 1024);
  std::uint64_t total = 0;
  for (;;) {
    const ssize_t count = ::read(file.descriptor(), buffer.data(), buffer.size());
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return session_io_error("read", path);
    if (count == 0) break;
    const Status fed = reader.feed(Bytes(buffer).first(static_cast<std::size_t>(count)));
    if (!fed.ok()) return named(fed.error());
    total += static_cast<std::uint64_t>(count);
  }
  const Status finished = reader.finish();
  if (!finished.ok()) return named(finished.error());
  return total;
}

// The file under its temporary name; removed unless it was renamed.
class UnfinishedSession {
 public:
  explicit UnfinishedSession(std::string name) : name_(std::move(name)) {}
  ~UnfinishedSession() {
    if (!name_.empty()) ::unlink(name_.c_str());
  }
  UnfinishedSession(const UnfinishedSession&) = delete;
  UnfinishedSession& operator=(const UnfinishedSession&) = delete;

  bool rename(const std::string& path) {
    if (::rename(name_.c_str(), path.c_str()) != 0) return false;
    name_.clear();
    return true;
  }

 private:
  std::string name_;
};

inline Status write_all(int descriptor, Bytes bytes, const std::string& path) {
  while (!bytes.empty()) {
    const ssize_t count = ::write(descriptor, bytes.data(), bytes.size());
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return session_io_error("write", path);
    bytes = bytes.subspan(static_cast<std::size_t>(count));
  }
  return {};
}

}  // namespace detail

inline Status save_session(const std::string& path, const KvSource& source,
                           const wire::Offer& offer) {
  struct stat found;
  if (::stat(path.c_str(), &found) == 0 && !S_ISREG(found.st_mode)) {
    return Error(ErrorCode::kInvalidArgument,
                 quoted(path, 512) + " is not a regular file; a session is saved to one");
  }
  std::string name = path + ".XXXXXX";
  detail::SessionFile file(::mkostemp(&name[0], O_CLOEXEC));
  if (file.descriptor() < 0) return detail::session_io_error("create a file beside", path);
  detail::UnfinishedSession unfinished(name);

  KVFERRY_TRY(wire::write_session(source, offer, [&](Bytes bytes) {
    return detail::write_all(file.descriptor(), bytes, path);
  }));
  if (::fsync(file.descriptor()) != 0 || !file.close())
    return detail::session_io_error("write", path);
  if (!unfinished.rename(path)) return detail::session_io_error("rename a file to", path);
  // The file is in place; this makes its name survive a power cut. Some file systems cannot.
  detail::SessionFile folder(::open(detail::folder_of(path).c_str(), O_RDONLY | O_CLOEXEC));
  if (folder.descriptor() >= 0) ::fsync(folder.descriptor());
  return {};
}

inline Result<KvCommit> load_session(const std::string& path, const ModelIdentity& identity,
                                     wire::SessionImport::Open open) {
  wire::SessionImport import(identity, std::move(open));
  wire::SessionReader reader(import);
  KVFERRY_TRY(detail::read_session(path, reader));
  return import.commit();
}

inline Result<SessionSummary> inspect_session(const std::string& path) {
  class Inspection : public wire::SessionHandler {
   public:
    Status on_offer(const wire::Offer& offer) override {
      summary.offer = offer;
      return {};
    }
    Status on_block(const wire::Block&) override { return {}; }
    SessionSummary summary;
  };
  Inspection inspection;
  wire::SessionReader reader(inspection);
  KVFERRY_ASSIGN(inspection.summary.file_bytes, detail::read_session(path, reader));
  inspection.summary.blocks = reader.blocks();
  inspection.summary.payload_bytes = reader.payload_bytes();
  return std::move(inspection.summary);
}

}  // namespace kvferry
