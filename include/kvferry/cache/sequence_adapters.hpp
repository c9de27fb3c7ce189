// SequenceSource and SequenceSink: a KvSequence as one end of a hand-off.
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <utility>

#include "kvferry/cache/stage.hpp"

namespace kvferry {

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
  const std::shared_ptr<const KvSequence> sequence_;
  const std::uint64_t generation_;
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
    if (stage_ == stage) stage_.reset();
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
