// KvStage: an import into a KvSequence as a transaction.
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <utility>
#include <vector>

#include "kvferry/cache/import_ledger.hpp"
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
    const std::uint32_t count =
        plan.begin == plan.end ? 0 : KvPool::blocks_for(plan.end) - plan.begin / kBlockTokens;
    KVFERRY_ASSIGN(std::vector<KvBlock> blocks, sequence->pool()->allocate(count));
    return std::shared_ptr<KvStage>(
        new KvStage(std::move(sequence), std::move(plan), std::move(blocks)));
  }
  KvStage(const KvStage&) = delete;
  KvStage& operator=(const KvStage&) = delete;

  const KvGeometry& geometry() const { return sequence_->geometry(); }

  // Rows [tokens, kv_heads, head_dim] of geometry().type. Errors as KvImportLedger::write and
  // KvMemory::write.
  Status write(const KvRange& range, Bytes rows) {
    KVFERRY_TRY(check_rows(geometry(), range, rows.size()));
    return ledger_.write(range, [&] { return copy(range, rows.data()); });
  }

  // As KvSequence::commit. kIncomplete names the first missing row; the stage stays open when it
  // fails, so that the rest can still be written.
  Result<KvCommit> commit() {
    return ledger_.commit([this] { return sequence_->commit(plan_, blocks_); });
  }

  // Gives the blocks back to the pool.
  void abort() noexcept {
    if (ledger_.abort()) blocks_.clear();
  }

 private:
  KvStage(std::shared_ptr<KvSequence> sequence, KvImportPlan plan, std::vector<KvBlock> blocks)
      : sequence_(std::move(sequence)),
        plan_(std::move(plan)),
        blocks_(std::move(blocks)),
        ledger_(sequence_->geometry(), plan_.begin, plan_.end) {}

  Status copy(const KvRange& range, const std::uint8_t* from) {
    const KvPool& pool = *sequence_->pool();
    const KvBlockLayout& layout = pool.layout();
    const std::uint32_t first = plan_.begin / kBlockTokens;
    return layout.for_each_tile(range, [&](const KvTileRows& rows) {
      return pool.memory().write(
          blocks_[rows.block - first].data() + rows.block_offset, from + rows.row_offset,
          {layout.head_bytes, rows.count, layout.head_bytes, layout.row_bytes()});
    });
  }

  const std::shared_ptr<KvSequence> sequence_;
  const KvImportPlan plan_;
  std::vector<KvBlock> blocks_;  // of tokens [plan_.begin, plan_.end), whole blocks
  KvImportLedger ledger_;
};

}  // namespace kvferry
