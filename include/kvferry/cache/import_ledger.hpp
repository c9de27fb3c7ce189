// KvImportLedger: the bookkeeping of one open import, shared by everything that implements KvSink.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <mutex>

#include "kvferry/cache/coverage.hpp"
#include "kvferry/cache/source_sink.hpp"

namespace kvferry {

// Lets any number of threads write disjoint rows, and closes the import exactly once. Nobody holds
// the lock while rows are copied; commit and abort wait for the copies that are under way, so that
// none can land in memory that has a new owner.
class KvImportLedger {
 public:
  KvImportLedger(const KvGeometry& geometry, std::uint32_t begin, std::uint32_t end)
      : coverage_(geometry, begin, end) {}

  // Claims the rows of `range` and calls copy(), which gives a Status. Each row may be written once
  // (KvCoverage::claim); kProtocol once the import is closed. An import of which a copy failed
  // takes no more rows and cannot be committed: both give that error.
  template <typename Copy>
  Status write(const KvRange& range, Copy&& copy) {
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      KVFERRY_TRY(check_open());
      KVFERRY_TRY(coverage_.claim(range));
      ++writers_;
    }
    Status copied = copy();
    const std::lock_guard<std::mutex> lock(mutex_);
    if (!copied.ok() && failure_.ok()) failure_ = copied;
    if (--writers_ == 0) idle_.notify_all();
    return copied;
  }

  // When every row is there, calls publish(), which gives a Result<KvCommit>, and closes the import
  // if it succeeded. Otherwise the import stays open.
  template <typename Publish>
  Result<KvCommit> commit(Publish&& publish) {
    std::unique_lock<std::mutex> lock(mutex_);
    KVFERRY_TRY(check_open());
    KVFERRY_TRY(coverage_.complete());
    idle_.wait(lock, [this] { return writers_ == 0; });
    KVFERRY_TRY(check_open());
    KVFERRY_ASSIGN(const KvCommit done, publish());
    open_ = false;
    return done;
  }

  // Closes the import. True the first time, unless it was committed.
  bool abort() noexcept {
    std::unique_lock<std::mutex> lock(mutex_);
    const bool was_open = open_;
    open_ = false;
    idle_.wait(lock, [this] { return writers_ == 0; });
    return was_open;
  }

 private:
  Status check_open() const {
    if (open_) return failure_;
    return Error(ErrorCode::kProtocol, "KV import: already committed or aborted");
  }

  std::mutex mutex_;
  std::condition_variable idle_;
  KvCoverage coverage_;
  std::uint32_t writers_ = 0;
  Status failure_;  // of the first copy that failed
  bool open_ = true;
};

}  // namespace kvferry
