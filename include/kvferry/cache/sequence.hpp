// KvSequence: the cache of one token sequence in blocks of a KvPool.
//
// Threads. One thread at a time appends (the decode loop); any thread may read, fork, ask for the
// length, and stage and commit an import. Between append() and the end of the KvAppend the block
// table does not change: a commit waits for that token boundary, and the next append() waits for a
// commit that is waiting, so neither starves the other. Rows below the length are never rewritten
// in place; what a commit replaces it replaces by other blocks.
#pragma once

#include <algorithm>
#include <condition_variable>
#include <cstdint>
#include <limits>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "kvferry/cache/origin.hpp"
#include "kvferry/cache/pool.hpp"
#include "kvferry/cache/source_sink.hpp"

namespace kvferry {

class KvSequence;

// Room for tokens that are being computed: the rows [begin(), end()) of every layer and plane are
// the holder's to write. publish() makes them part of the sequence; destroyed without, it leaves
// the sequence as it was. While it lives, blocks() and everything that they hold below begin() are
// stable.
class KvAppend {
 public:
  KvAppend(KvAppend&&) noexcept = default;
  KvAppend& operator=(KvAppend&&) = delete;
  ~KvAppend();

  std::uint32_t begin() const { return begin_; }  // position of the first new token
  std::uint32_t end() const { return end_; }
  // Base pointers of the blocks of tokens [0, end()); token t lies in block t / kBlockTokens at row
  // t % kBlockTokens of each tile (KvBlockLayout). Rows from end() on are indeterminate.
  Span<std::uint8_t* const> blocks() const;
  // All rows of [begin(), end()) are written and now belong to the sequence. Call it once.
  void publish();

 private:
  friend class KvSequence;
  KvAppend(std::shared_ptr<KvSequence> sequence, std::uint32_t begin, std::uint32_t end)
      : sequence_(std::move(sequence)), begin_(begin), end_(end) {}

  std::shared_ptr<KvSequence> sequence_;  // null once published
  std::uint32_t begin_;
  std::uint32_t end_;
};

class KvSequence : public std::enable_shared_from_this<KvSequence> {
 public:
  // An empty sequence.
  static std::shared_ptr<KvSequence> create(std::shared_ptr<KvPool> pool) {
    return std::shared_ptr<KvSequence>(new KvSequence(std::move(pool)));
  }
  KvSequence(const KvSequence&) = delete;
  KvSequence& operator=(const KvSequence&) = delete;

  const std::shared_ptr<KvPool>& pool() const { return pool_; }
  const KvGeometry& geometry() const { return pool_->geometry(); }
  // Published tokens.
  std::uint32_t length() const {
    const std::lock_guard<std::mutex> lock(mutex_);
    return length_;
  }
  // Counts the changes other than appending: commits and truncations.
  std::uint64_t generation() const {
    const std::lock_guard<std::mutex> lock(mutex_);
    return generation_;
  }
  // Ids of the published tokens.
  std::vector<TokenId> tokens() const {
    const std::lock_guard<std::mutex> lock(mutex_);
    return std::vector<TokenId>(tokens_.begin(), tokens_.begin() + length_);
  }
  KvOrigin origin() const {
    const std::lock_guard<std::mutex> lock(mutex_);
    return origin_;
  }
  void set_origin(KvOrigin origin) {
    const std::lock_guard<std::mutex> lock(mutex_);
    origin_ = std::move(origin);
  }
  // How many leading tokens of `tokens` are this sequence's leading tokens.
  std::uint32_t matching_prefix(Span<const TokenId> tokens) const {
    const std::lock_guard<std::mutex> lock(mutex_);
    const std::size_t most = std::min<std::size_t>(tokens.size(), length_);
    std::size_t same = 0;
    while (same < most && tokens[same] == tokens_[same]) ++same;
    return static_cast<std::uint32_t>(same);
  }

  // Room for `tokens` after the published ones. kResourceExhausted when the pool has none (nothing
  // changed), kProtocol while another append of this sequence is open, kInvalidArgument for none.
  Result<KvAppend> append(Span<const TokenId> tokens);

  // Keeps the first `length` tokens. kInvalidArgument beyond the length, kProtocol while an append
  // is open.
  Status truncate(std::uint32_t length);

  // A new sequence of generation 0 that shares the first `length` tokens with this one and its
  // origin; either side copies a block before it writes to one that is shared.
  Result<std::shared_ptr<KvSequence>> fork(std::uint32_t length) const;

  // As KvSource::read, with the errors of KvMemory, or kMismatch when the sequence is not of
  // `generation`. Also reads rows of an open append that the caller knows to be written, which lets
  // a hand-off stream under the compute.
  Status read(const KvRange& range, std::uint64_t generation, MutableBytes out) const;

  // What an import may rely on: kMismatch when `plan` does not fit the sequence as it is now.
  Status check(const KvImportPlan& plan) const {
    const std::lock_guard<std::mutex> lock(mutex_);
    return check_locked(plan);
  }

  // Puts `blocks`, which hold the rows of plan.begin .. plan.end at their places, into the table in
  // one step at a token boundary; waits for an open append to end. Tokens past plan.end stay, and
  // so do tokens that were appended since the plan was made; a token that stays, or that others
  // which stay were computed from, must have the id that the plan says (else kMismatch, nothing
  // changed). kProtocol when the calling thread itself holds the append. `blocks` are not shared;
  // they are moved from on success and untouched on failure.
  Result<KvCommit> commit(const KvImportPlan& plan, std::vector<KvBlock>& blocks);

 private:
  friend class KvAppend;
  explicit KvSequence(std::shared_ptr<KvPool> pool) : pool_(std::move(pool)) {}

  Status check_locked(const KvImportPlan& plan) const;
  // Rows [begin, end) of every tile, in block-relative rows.
  Status copy_rows(const KvBlock& to, const KvBlock& from, std::uint32_t begin,
                   std::uint32_t end) const {
    const KvBlockLayout& layout = pool_->layout();
    const std::size_t offset = begin * layout.head_bytes;
    return pool_->memory().move(
        to.data() + offset, from.data() + offset,
        {(end - begin) * layout.head_bytes, layout.block_bytes / layout.tile_bytes,
         layout.tile_bytes, layout.tile_bytes});
  }
  void put_block(std::size_t index, KvBlock block) {
    if (index == blocks_.size()) {
      blocks_.emplace_back();
      bases_.emplace_back();
    }
    bases_[index] = block.data();
    blocks_[index] = std::move(block);
  }
  void keep_blocks(std::uint32_t count) {
    blocks_.resize(count);
    bases_.resize(count);
  }
  void end_append(std::uint32_t length);

  const std::shared_ptr<KvPool> pool_;
  mutable std::mutex mutex_;
  std::condition_variable boundary_;  // an append ended, or no commit waits any more
  std::vector<KvBlock> blocks_;       // of tokens [0, reserved_)
  std::vector<std::uint8_t*> bases_;  // blocks_[i].data()
  std::vector<TokenId> tokens_;       // [reserved_]
  std::uint32_t length_ = 0;          // published tokens
  std::uint32_t reserved_ = 0;        // length_, or the end of the open append
  std::uint64_t generation_ = 0;
  KvOrigin origin_;
  bool append_open_ = false;
  std::thread::id appender_;  // that opened the append
  std::uint32_t waiting_commits_ = 0;
};

inline KvAppend::~KvAppend() {
  if (sequence_) sequence_->end_append(begin_);
}
inline Span<std::uint8_t* const> KvAppend::blocks() const {
  return Span<std::uint8_t* const>(sequence_->bases_.data(), sequence_->bases_.size());
}
inline void KvAppend::publish() {
  const std::shared_ptr<KvSequence> sequence = std::move(sequence_);
  sequence->end_append(end_);
}

inline Result<KvAppend> KvSequence::append(Span<const TokenId> tokens) {
  std::unique_lock<std::mutex> lock(mutex_);
  boundary_.wait(lock, [this] { return waiting_commits_ == 0; });
  if (append_open_) {
    return Error(ErrorCode::kProtocol, "KV sequence: an append is open; publish or drop it first");
  }
  if (tokens.empty() || tokens.size() > std::numeric_limits<std::uint32_t>::max() - length_) {
    return Error(ErrorCode::kInvalidArgument, "KV sequence: cannot append " +
                                                  std::to_string(tokens.size()) + " tokens to " +
                                                  std::to_string(length_));
  }
  const std::uint32_t end = length_ + static_cast<std::uint32_t>(tokens.size());
  const std::uint32_t used_rows = length_ % kBlockTokens;
  const bool copy_tail = used_rows != 0 && blocks_.back().references() > 1;
  const std::uint32_t first_new =
      KvPool::blocks_for(length_) - static_cast<std::uint32_t>(copy_tail);
  KVFERRY_ASSIGN(std::vector<KvBlock> added, pool_->allocate(KvPool::blocks_for(end) - first_new));
  if (copy_tail) KVFERRY_TRY(copy_rows(added.front(), blocks_.back(), 0, used_rows));
  for (std::size_t i = 0; i < added.size(); ++i) put_block(first_new + i, std::move(added[i]));
  tokens_.insert(tokens_.end(), tokens.begin(), tokens.end());
  reserved_ = end;
  append_open_ = true;
  appender_ = std::this_thread::get_id();
  return KvAppend(shared_from_this(), length_, end);
}

inline void KvSequence::end_append(std::uint32_t length) {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    length_ = reserved_ = length;
    tokens_.resize(length);
    keep_blocks(KvPool::blocks_for(length));
    append_open_ = false;
  }
  boundary_.notify_all();
}

inline Status KvSequence::truncate(std::uint32_t length) {
  const std::lock_guard<std::mutex> lock(mutex_);
  if (append_open_) {
    return Error(ErrorCode::kProtocol, "KV sequence: an append is open; publish or drop it first");
  }
  if (length > length_) {
    return Error(ErrorCode::kInvalidArgument, "KV sequence: cannot keep " + std::to_string(length) +
                                                  " of " + std::to_string(length_) + " tokens");
  }
  length_ = reserved_ = length;
  tokens_.resize(length);
  keep_blocks(KvPool::blocks_for(length));
  ++generation_;
  return Status();
}

inline Result<std::shared_ptr<KvSequence>> KvSequence::fork(std::uint32_t length) const {
  std::shared_ptr<KvSequence> other = create(pool_);
  const std::lock_guard<std::mutex> lock(mutex_);
  if (length > length_) {
    return Error(ErrorCode::kInvalidArgument, "KV sequence: cannot share " +
                                                  std::to_string(length) + " of " +
                                                  std::to_string(length_) + " tokens");
  }
  const std::uint32_t count = KvPool::blocks_for(length);
  other->blocks_.assign(blocks_.begin(), blocks_.begin() + count);
  other->bases_.assign(bases_.begin(), bases_.begin() + count);
  other->tokens_.assign(tokens_.begin(), tokens_.begin() + length);
  other->length_ = other->reserved_ = length;
  other->origin_ = origin_;
  return other;
}

inline Status KvSequence::read(const KvRange& range, std::uint64_t generation,
                               MutableBytes out) const {
  KVFERRY_TRY(check_rows(geometry(), range, out.size()));
  const std::lock_guard<std::mutex> lock(mutex_);
  if (generation != generation_) {
    return Error(ErrorCode::kMismatch, to_string(range) + ": the sequence is at generation " +
                                           std::to_string(generation_) + ", not " +
                                           std::to_string(generation) + "; read it again");
  }
  if (range.end > reserved_) {
    return Error(ErrorCode::kInvalidArgument,
                 to_string(range) + ": the sequence has " + std::to_string(reserved_) + " tokens");
  }
  const KvBlockLayout& layout = pool_->layout();
  return layout.for_each_tile(range, [&](const KvTileRows& rows) {
    return pool_->memory().read(
        out.data() + rows.row_offset, bases_[rows.block] + rows.block_offset,
        {layout.head_bytes, rows.count, layout.row_bytes(), layout.head_bytes});
  });
}

inline Status KvSequence::check_locked(const KvImportPlan& plan) const {
  const auto refuse = [](ErrorCode code, const std::string& what) {
    return Status(code, "KV import: " + what);
  };
  if (plan.begin > plan.end || plan.begin > plan.base_length ||
      plan.tokens.size() != plan.end - plan.begin) {
    return refuse(ErrorCode::kInvalidArgument,
                  "tokens [" + std::to_string(plan.begin) + ", " + std::to_string(plan.end) +
                      ") with " + std::to_string(plan.tokens.size()) +
                      " ids do not follow on a base of " + std::to_string(plan.base_length));
  }
  if (plan.generation != generation_) {
    return refuse(ErrorCode::kMismatch, "made for generation " + std::to_string(plan.generation) +
                                            " of the sequence, which is at " +
                                            std::to_string(generation_));
  }
  if (plan.base_length > length_) {
    return refuse(ErrorCode::kMismatch, "made for " + std::to_string(plan.base_length) +
                                            " tokens, the sequence has " + std::to_string(length_));
  }
  // Ids may change only where nothing stays that was computed from them.
  const std::uint32_t same_from = length_ > plan.end ? plan.begin : plan.base_length;
  for (std::uint32_t t = same_from; t < std::min(plan.end, length_); ++t) {
    if (tokens_[t] != plan.tokens[t - plan.begin]) {
      return refuse(ErrorCode::kMismatch, "token " + std::to_string(t) + " is id " +
                                              std::to_string(tokens_[t]) + " in the sequence and " +
                                              std::to_string(plan.tokens[t - plan.begin]) +
                                              " in the import");
    }
  }
  return Status();
}

inline Result<KvCommit> KvSequence::commit(const KvImportPlan& plan, std::vector<KvBlock>& blocks) {
  std::unique_lock<std::mutex> lock(mutex_);
  if (append_open_ && appender_ == std::this_thread::get_id()) {
    return Error(ErrorCode::kProtocol,
                 "KV import: this thread holds an open append; publish or drop it first");
  }
  ++waiting_commits_;
  boundary_.wait(lock, [this] { return !append_open_; });
  --waiting_commits_;
  boundary_.notify_all();

  KVFERRY_TRY(check_locked(plan));
  if (!blocks.empty()) {
    const std::uint32_t first = plan.begin / kBlockTokens;
    const std::uint32_t rows_before = plan.begin % kBlockTokens;
    if (rows_before != 0) KVFERRY_TRY(copy_rows(blocks.front(), blocks_[first], 0, rows_before));
    const std::uint32_t last = (plan.end - 1) / kBlockTokens;
    const std::uint32_t last_end = std::min(length_ - last * kBlockTokens, kBlockTokens);
    if (length_ > plan.end && plan.end % kBlockTokens != 0)
      KVFERRY_TRY(copy_rows(blocks.back(), blocks_[last], plan.end % kBlockTokens, last_end));
    for (std::size_t i = 0; i < blocks.size(); ++i) put_block(first + i, std::move(blocks[i]));
  }
  length_ = reserved_ = std::max(length_, plan.end);
  tokens_.resize(length_);
  std::copy(plan.tokens.begin(), plan.tokens.end(), tokens_.begin() + plan.begin);
  ++generation_;
  KvCommit done;
  done.generation = generation_;
  done.length = length_;
  return done;
}

}  // namespace kvferry
