// Session files: they appear whole or not at all.
#include "kvferry/handoff/session_file.hpp"

#include <fstream>
#include <iterator>
#include <set>
#include <string>

#include <catch2/catch.hpp>
#include <sys/stat.h>

#include "tests/support/temporary_folder.hpp"
#include "tests/wire/session_fixture.hpp"

using namespace kvferry;
using namespace kvferry_test;

namespace {

std::vector<std::uint8_t> content(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  return std::vector<std::uint8_t>((std::istreambuf_iterator<char>(in)),
                                   std::istreambuf_iterator<char>());
}

void write(const std::string& path, const std::vector<std::uint8_t>& bytes) {
  std::ofstream out(path, std::ios::binary);
  out.write(reinterpret_cast<const char*>(bytes.data()),
            static_cast<std::streamsize>(bytes.size()));
}

Result<KvCommit> load_file(const std::string& path, SmallCache& cache) {
  StridedSink sink = cache.sink();
  return load_session(path, cache.identity(),
                      [&](const wire::Offer&) { return Result<KvSink*>(&sink); });
}

// Reads well until layer 1.
class FailingSource : public KvSource {
 public:
  explicit FailingSource(const KvSource& source) : source_(source) {}
  const KvGeometry& geometry() const override { return source_.geometry(); }
  Status read(const KvRange& range, MutableBytes out) const override {
    if (range.layer == 1) return Error(ErrorCode::kMismatch, "the sequence changed");
    return source_.read(range, out);
  }

 private:
  const KvSource& source_;
};

}  // namespace

TEST_CASE("A saved session loads, is inspected, and is the owner's alone") {
  const TemporaryFolder folder;
  SmallCache cache(300);
  cache.fill();
  const std::string path = folder.file("a.kvsession");
  REQUIRE(save_session(path, cache.source(), cache.offer(Profile::kLossless)).ok());
  CHECK(content(path) == cache.session(Profile::kLossless));
  CHECK(folder.files() == std::set<std::string>{"a.kvsession"});
  struct stat status;
  REQUIRE(stat(path.c_str(), &status) == 0);
  CHECK((status.st_mode & 0777) == 0600);

  SmallCache copy(300);
  const auto loaded = load_file(path, copy);
  REQUIRE(loaded.ok());
  CHECK(copy.memory() == cache.memory());

  const auto summary = inspect_session(path);
  REQUIRE(summary.ok());
  CHECK(summary->offer.tokens.size() == 300);
  CHECK(summary->blocks == 8);
  CHECK(summary->file_bytes == content(path).size());
}

TEST_CASE("A save that fails leaves no file, or the one that was there") {
  const TemporaryFolder folder;
  SmallCache cache(3);
  cache.fill();
  const StridedSource source = cache.source();
  const std::string path = folder.file("a.kvsession");
  const auto failed = save_session(path, FailingSource(source), cache.offer(Profile::kRaw));
  REQUIRE_FALSE(failed.ok());
  CHECK(failed.error().code == ErrorCode::kMismatch);
  CHECK(folder.files().empty());

  write(path, {1, 2, 3});
  CHECK_FALSE(save_session(path, FailingSource(source), cache.offer(Profile::kRaw)).ok());
  CHECK(content(path) == std::vector<std::uint8_t>{1, 2, 3});
  CHECK(folder.files().size() == 1);

  REQUIRE(save_session(path, source, cache.offer(Profile::kRaw)).ok());
  CHECK(content(path) == cache.session(Profile::kRaw));
  CHECK(folder.files().size() == 1);
}

TEST_CASE("Paths that cannot be saved to, or loaded from") {
  const TemporaryFolder folder;
  SmallCache cache(3);
  const auto saved = [&](const std::string& path) {
    return save_session(path, cache.source(), cache.offer(Profile::kRaw)).error().code;
  };
  CHECK(saved("/dev/null") == ErrorCode::kInvalidArgument);
  CHECK(saved(folder.file("")) == ErrorCode::kInvalidArgument);
  CHECK(saved(folder.file("no/such/folder")) == ErrorCode::kIo);
  CHECK(load_file(folder.file("none"), cache).error().code == ErrorCode::kIo);
  CHECK(load_file(folder.file(""), cache).error().code == ErrorCode::kIo);
  CHECK(inspect_session("/dev/null").error().code == ErrorCode::kIncomplete);
}

TEST_CASE("A truncated file is named, at a frame's end too, and nothing is loaded") {
  const TemporaryFolder folder;
  SmallCache cache(3);
  cache.fill();
  auto bytes = cache.session(Profile::kRaw);
  bytes.resize(bytes.size() - 48 - 24);  // without END
  const std::string path = folder.file("cut.kvsession");
  write(path, bytes);
  SmallCache copy(3);
  const auto loaded = load_file(path, copy);
  REQUIRE_FALSE(loaded.ok());
  CHECK(loaded.error().code == ErrorCode::kIncomplete);
  CHECK(loaded.error().message.find("cut.kvsession") != std::string::npos);
  CHECK(copy.length() == 0);
  CHECK(inspect_session(path).error().code == ErrorCode::kIncomplete);
}
