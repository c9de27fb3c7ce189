// Sessions in files: a sequence's cache saved and loaded (format: wire/session.hpp).
#pragma once

#include <cerrno>
#include <cstdint>
#include <cstring>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <fcntl.h>
#include <unistd.h>

#include "kvferry/cache/source_sink.hpp"
#include "kvferry/core/atomic_file.hpp"
#include "kvferry/core/quoted.hpp"
#include "kvferry/core/result.hpp"
#include "kvferry/wire/session.hpp"

namespace kvferry {

// Saves `source` to `path`, readable by its owner alone, as an AtomicFile: whole or not at all.
// `codebook`: as write_session() has it; the file carries it.
Status save_session(const std::string& path, const KvSource& source, const wire::Offer& offer,
                    const std::shared_ptr<const Codebook>& codebook = nullptr);

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

// Feeds a file to `reader`; its errors name the file.
inline Result<std::uint64_t> read_session(const std::string& path, wire::SessionReader& reader) {
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
  const auto named = [&path](const Error& error) {
    return Error(error.code, quoted(path, 512) + ": " + error.message);
  };
  std::vector<std::uint8_t> buffer(256 * 1024);
  std::uint64_t total = 0;
  for (;;) {
    const ssize_t count = ::read(descriptor, buffer.data(), buffer.size());
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return io_error("read");
    if (count == 0) break;
    const Status fed = reader.feed(Bytes(buffer).first(static_cast<std::size_t>(count)));
    if (!fed.ok()) return named(fed.error());
    total += static_cast<std::uint64_t>(count);
  }
  const Status finished = reader.finish();
  if (!finished.ok()) return named(finished.error());
  return total;
}

}  // namespace detail

inline Status save_session(const std::string& path, const KvSource& source,
                           const wire::Offer& offer,
                           const std::shared_ptr<const Codebook>& codebook) {
  KVFERRY_ASSIGN(AtomicFile file, AtomicFile::create(path, FileAccess::kOwner));
  KVFERRY_TRY(wire::write_session(
      source, offer, [&](Bytes bytes) { return file.write(bytes); }, codebook));
  return file.commit();
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
    Status on_codebook(Bytes bytes) override {
      KVFERRY_ASSIGN(const auto codebook, Codebook::parse(bytes));
      if (codebook->id() == summary.offer.codebook) return {};
      return Error(ErrorCode::kChecksum, "the session's codebook is not the one that it names");
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
