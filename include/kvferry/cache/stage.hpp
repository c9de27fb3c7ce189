// KvStage: an import into a KvSequence as a transaction.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <cstring>
#include <memory>
#include <mutex>
#include <utility>
#include <vector>

#include "kvferry/cache/coverage.hpp"
#include "kvferry/cache/sequence.hpp"

namespace kvferry {

// Holds free blocks of the pool for tokens [plan.begin, plan.end), takes their rows in any order
// from any number of threads and sources, and puts them into the sequence in one step. Each row is
// written once: a duplicate or overlap is refused. Destroyed without a commit it leaves no trace.
class KvStage {
 public:
  // kMismatch when the plan does not fit the sequence, kResourceExhausted when the pool does not
  // have the blocks.
  static Result<std::shared_ptr<KvStage>> create(std::shared_ptr<KvSequence> sequence,
                                                 KvImportPlan plan) {
    KVFERRY_TRY(sequence->check(plan));
    const std::uint32_t first = plan.begin / kBlockTokens;
    const std::uint32_t count = plan.begin == plan.end ? 0 : KvPool::blocks_for(plan.end) - first;
    KVFERRY_ASSIGN(std::vector<KvBlock> blocks, sequence->pool()->allocate(count));
    return std::shared_ptr<KvStage>(
        new KvStage(std::move(sequence), std::move(plan), std::move(blocks)));
  }
  ~KvStage() { abort(); }
  KvStage(const KvStage&) = delete;
  KvStage& operator=(const KvStage&) = delete;

  const KvGeometry& geometry() const { return sequence_->geometry(); }

  // Rows [tokens, kv_heads, head_dim] of geometry().type. Errors as KvCoverage::claim; kProtocol
  // after commit or abort.
  Status write(const KvRange& range, Bytes rows) {
    KVFERRY_TRY(check_rows(geometry(), range, rows.size()));
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      KVFERRY_TRY(check_open());
      KVFERRY_TRY(coverage_.claim(range));
      ++writers_;
    }
    copy(range, rows.data());
    const std::lock_guard<std::mutex> lock(mutex_);
    if (--writers_ == 0) idle_.notify_all();
    return Status();
  }

  // As KvSequence::commit. kIncomplete names the first missing row; the stage stays open when it
  // fails, so that the rest can still be written. Waits for writes under way.
  Result<KvCommit> commit() {
    std::unique_lock<std::mutex> lock(mutex_);
    KVFERRY_TRY(check_open());
    KVFERRY_TRY(coverage_.complete());
    idle_.wait(lock, [this] { return writers_ == 0; });
    KVFERRY_TRY(check_open());
    KVFERRY_ASSIGN(const KvCommit done, sequence_->commit(plan_, blocks_));
    open_ = false;
    blocks_.clear();
    return done;
  }

  // Gives the blocks back when the writes under way have ended, so that none can land in a block
  // that has a new owner.
  void abort() noexcept {
    std::unique_lock<std::mutex> lock(mutex_);
    open_ = false;
    idle_.wait(lock, [this] { return writers_ == 0; });
    blocks_.clear();
  }

 private:
  KvStage(std::shared_ptr<KvSequence> sequence, KvImportPlan plan, std::vector<KvBlock> blocks)
      : sequence_(std::move(sequence)),
        plan_(std::move(plan)),
        blocks_(std::move(blocks)),
        coverage_(sequence_->geometry(), plan_.begin, plan_.end) {}

  Status check_open() const {
    if (open_) return Status();
    return Error(ErrorCode::kProtocol, "KV import: already committed or aborted");
  }

  void copy(const KvRange& range, const std::uint8_t* from) {
    const KvBlockLayout& layout = sequence_->pool()->layout();
    const std::uint32_t first = plan_.begin / kBlockTokens;
    for (std::uint32_t t = range.begin; t < range.end; ++t) {
      std::uint8_t* row = blocks_[t / kBlockTokens - first].data() +
                          layout.tile_offset(range.layer, range.plane, 0) +
                          t % kBlockTokens * layout.head_bytes;
      for (std::uint32_t h = 0; h < layout.kv_heads; ++h, from += layout.head_bytes)
        std::memcpy(row + h * layout.tile_bytes, from, layout.head_bytes);
    }
  }

  const std::shared_ptr<KvSequence> sequence_;
  const KvImportPlan plan_;
  std::vector<KvBlock> blocks_;  // of tokens [plan_.begin, plan_.end), whole blocks
  std::mutex mutex_;             // of what follows; never held while rows are copied
  std::condition_variable idle_;
  KvCoverage coverage_;
  std::uint32_t writers_ = 0;
  bool open_ = true;
};

// A KvSource over a sequence as it was when the source was made: reading fails with kMismatch once
// a commit or a truncation changed it. Tokens appended meanwhile can be read.
class SequenceSource : public KvSource {
 public:
  explicit SequenceSource(std::shared_ptr<const KvSequence> sequence)
      : sequence_(std::move(sequence)), generation_(sequence_->generation()) {}

  const KvGeometry& geometry() const override { return sequence_->geometry(); }
  Status read(const KvRange& range, MutableBytes out) const override {
    return sequence_->read(range, generation_, out);
  }

 private:
  std::shared_ptr<const KvSequence> sequence_;
  std::uint64_t generation_;
};

// A KvSink into a sequence. One import at a time; begin() after commit() or abort() starts another.
class SequenceSink : public KvSink {
 public:
  explicit SequenceSink(std::shared_ptr<KvSequence> sequence) : sequence_(std::move(sequence)) {}

  const KvGeometry& geometry() const override { return sequence_->geometry(); }
  Status begin(const KvImportPlan& plan) override {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (stage_) {
      return Error(ErrorCode::kProtocol, "KV import: another import into this sequence is open");
    }
    KVFERRY_ASSIGN(stage_, KvStage::create(sequence_, plan));
    return Status();
  }
  Status write(const KvRange& range, Bytes rows) override {
    KVFERRY_ASSIGN(const std::shared_ptr<KvStage> stage, open_stage());
    return stage->write(range, rows);
  }
  Result<KvCommit> commit() override {
    KVFERRY_ASSIGN(const std::shared_ptr<KvStage> stage, open_stage());
    KVFERRY_ASSIGN(const KvCommit done, stage->commit());
    const std::lock_guard<std::mutex> lock(mutex_);
    stage_.reset();
    return done;
  }
  void abort() noexcept override {
    std::shared_ptr<KvStage> stage;
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      stage.swap(stage_);
    }
    if (stage) stage->abort();
  }

 private:
  Result<std::shared_ptr<KvStage>> open_stage() const {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (!stage_) return Error(ErrorCode::kProtocol, "KV import: none is open; call begin() first");
    return stage_;
  }

  const std::shared_ptr<KvSequence> sequence_;
  mutable std::mutex mutex_;
  std::shared_ptr<KvStage> stage_;
};

}  // namespace kvferry
