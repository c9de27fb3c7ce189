// KvPool: the memory of all KV caches of one geometry, in blocks of kBlockTokens tokens.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "kvferry/cache/geometry.hpp"
#include "kvferry/cache/memory.hpp"
#include "kvferry/core/result.hpp"
#include "kvferry/core/span.hpp"

namespace kvferry {

// Rows of a KvRange that lie in one tile, one after the other, head_bytes apart.
struct KvTileRows {
  std::uint32_t block = 0;       // of the sequence
  std::size_t block_offset = 0;  // from the block's base to the first row
  std::size_t row_offset = 0;    // from the range's rows [tokens, kv_heads, head_dim] to its place
  std::uint32_t count = 0;       // tokens; head_bytes each, in the range's rows row_bytes apart
};

// Offsets inside a block of [layers, plane (K, V), kv_heads, kBlockTokens, head_dim] values. A tile
// is one (layer, plane, head): contiguous [kBlockTokens, head_dim], at the same offset in every
// block, 64-byte aligned.
struct KvBlockLayout {
  std::uint32_t first_layer = 0;
  std::uint32_t kv_heads = 0;
  std::size_t head_bytes = 0;   // one token of one head
  std::size_t tile_bytes = 0;   // kBlockTokens * head_bytes
  std::size_t block_bytes = 0;  // every tile of a block

  explicit KvBlockLayout(const KvGeometry& g)
      : first_layer(g.first_layer),
        kv_heads(g.kv_heads),
        head_bytes(g.head_dim * size_of(g.type)),
        tile_bytes(kBlockTokens * head_bytes),
        block_bytes(std::size_t{2} * g.layers * g.kv_heads * tile_bytes) {}

  // From the block's base to the tile; `layer` is the model's number.
  std::size_t tile_offset(std::uint32_t layer, Plane plane, std::uint32_t head) const {
    const std::size_t plane_index =
        std::size_t{2} * (layer - first_layer) + static_cast<std::size_t>(plane);
    return (plane_index * kv_heads + head) * tile_bytes;
  }

  std::size_t row_bytes() const { return kv_heads * head_bytes; }

  // Calls visit(KvTileRows) for all rows of the range; ends with the first error that it returns.
  template <typename Visit>
  Status for_each_tile(const KvRange& range, Visit&& visit) const {
    for (std::uint32_t token = range.begin; token < range.end;) {
      const std::uint32_t row = token % kBlockTokens;
      const std::uint32_t count = std::min(kBlockTokens - row, range.end - token);
      for (std::uint32_t h = 0; h < kv_heads; ++h) {
        KVFERRY_TRY(visit(KvTileRows{token / kBlockTokens,
                                     tile_offset(range.layer, range.plane, h) + row * head_bytes,
                                     (token - range.begin) * row_bytes() + h * head_bytes, count}));
      }
      token += count;
    }
    return Status();
  }
};

class KvPool;

// A counted reference to one block of a pool: copying it shares the block, destroying the last one
// frees it. Keeps the pool alive. Several threads may hold references to one block; one KvBlock
// object is not itself safe to change from two threads.
class KvBlock {
 public:
  KvBlock() = default;
  KvBlock(const KvBlock& other) noexcept;
  KvBlock(KvBlock&& other) noexcept = default;
  KvBlock& operator=(KvBlock other) noexcept {
    std::swap(pool_, other.pool_);
    std::swap(index_, other.index_);
    return *this;
  }
  ~KvBlock();

  // Base of the block in its pool's memory(), laid out as KvPool::layout() says. Contents are
  // indeterminate where nobody has written.
  std::uint8_t* data() const;
  // Number of references to this block, this one included. One means that nobody else can read it.
  std::uint32_t references() const;

 private:
  friend class KvPool;
  KvBlock(std::shared_ptr<KvPool> pool, std::uint32_t index)
      : pool_(std::move(pool)), index_(index) {}

  std::shared_ptr<KvPool> pool_;
  std::uint32_t index_ = 0;
};

// Reserves its address space once; freed blocks are reused first (last in, first out), so that
// resident memory follows the largest use so far. Blocks may be allocated and released from any
// thread.
class KvPool : public std::enable_shared_from_this<KvPool> {
 public:
  // Bytes of `blocks` blocks of this geometry. kInvalidArgument when the geometry is unusable or
  // the size does not fit in memory addresses.
  static Result<std::size_t> bytes_for(const KvGeometry& geometry, std::uint32_t blocks) {
    KVFERRY_TRY(validate(geometry));
    const std::size_t block = KvBlockLayout(geometry).block_bytes;
    if (blocks > std::numeric_limits<std::size_t>::max() / 2 / block) {
      return Error(ErrorCode::kInvalidArgument, "KV pool: " + std::to_string(blocks) +
                                                    " blocks of " + std::to_string(block) +
                                                    " bytes do not fit in the address space");
    }
    return blocks * block;
  }

  // Blocks that hold `tokens` tokens of one sequence.
  static constexpr std::uint32_t blocks_for(std::uint32_t tokens) {
    return tokens / kBlockTokens + (tokens % kBlockTokens != 0 ? 1 : 0);
  }

  // A pool of `blocks` blocks in `memory`. kResourceExhausted when there is not that much.
  static Result<std::shared_ptr<KvPool>> create(
      const KvGeometry& geometry, std::uint32_t blocks,
      std::shared_ptr<KvMemory> memory = HostMemory::get()) {
    KVFERRY_ASSIGN(const std::size_t bytes, bytes_for(geometry, blocks));
    Result<std::uint8_t*> base = memory->allocate(bytes);
    if (!base.ok()) {
      return Error(base.error().code, "KV pool: " + base.error().message + " for " +
                                          std::to_string(blocks) + " blocks; ask for fewer tokens");
    }
    return std::shared_ptr<KvPool>(new KvPool(geometry, blocks, std::move(memory), base.value()));
  }

  ~KvPool() { memory_->release(base_); }
  KvPool(const KvPool&) = delete;
  KvPool& operator=(const KvPool&) = delete;

  const KvGeometry& geometry() const { return geometry_; }
  const KvBlockLayout& layout() const { return layout_; }
  // Where the blocks lie.
  KvMemory& memory() const { return *memory_; }
  std::uint32_t capacity_blocks() const { return capacity_; }
  std::uint64_t capacity_tokens() const { return std::uint64_t{capacity_} * kBlockTokens; }
  std::uint32_t free_blocks() const {
    const std::lock_guard<std::mutex> lock(mutex_);
    return free_count();
  }

  // `count` blocks with one reference each, or kResourceExhausted and none.
  Result<std::vector<KvBlock>> allocate(std::uint32_t count) {
    std::vector<KvBlock> blocks;
    blocks.reserve(count);
    const std::lock_guard<std::mutex> lock(mutex_);
    if (count > free_count()) {
      return Error(ErrorCode::kResourceExhausted,
                   "KV pool: " + std::to_string(count) + " blocks of " +
                       std::to_string(kBlockTokens) + " tokens needed, " +
                       std::to_string(free_count()) + " of " + std::to_string(capacity_) + " free");
    }
    for (std::uint32_t i = 0; i < count; ++i) {
      std::uint32_t index = never_used_;
      if (!free_.empty()) {
        index = free_.back();
        free_.pop_back();
      } else {
        ++never_used_;
      }
      references_[index].store(1, std::memory_order_relaxed);
      blocks.push_back(KvBlock(shared_from_this(), index));
    }
    return blocks;
  }

 private:
  friend class KvBlock;

  KvPool(const KvGeometry& geometry, std::uint32_t blocks, std::shared_ptr<KvMemory> memory,
         std::uint8_t* base)
      : geometry_(geometry),
        layout_(geometry),
        capacity_(blocks),
        memory_(std::move(memory)),
        base_(base),
        references_(new std::atomic<std::uint32_t>[blocks]) {
    free_.reserve(blocks);  // release() then never allocates
  }

  std::uint32_t free_count() const {
    return static_cast<std::uint32_t>(free_.size()) + (capacity_ - never_used_);
  }
  void retain(std::uint32_t index) noexcept {
    references_[index].fetch_add(1, std::memory_order_relaxed);
  }
  void release(std::uint32_t index) noexcept {
    if (references_[index].fetch_sub(1, std::memory_order_acq_rel) != 1) return;
    const std::lock_guard<std::mutex> lock(mutex_);
    free_.push_back(index);
  }

  const KvGeometry geometry_;
  const KvBlockLayout layout_;
  const std::uint32_t capacity_;
  const std::shared_ptr<KvMemory> memory_;
  std::uint8_t* const base_;
  std::unique_ptr<std::atomic<std::uint32_t>[]> references_;  // [capacity_]
  mutable std::mutex mutex_;
  std::vector<std::uint32_t> free_;  // freed blocks, the latest last
  std::uint32_t never_used_ = 0;     // blocks from here on were never handed out
};

inline KvBlock::KvBlock(const KvBlock& other) noexcept : pool_(other.pool_), index_(other.index_) {
  if (pool_) pool_->retain(index_);
}
inline KvBlock::~KvBlock() {
  if (pool_) pool_->release(index_);
}
inline std::uint8_t* KvBlock::data() const {
  return pool_->base_ + index_ * pool_->layout_.block_bytes;
}
inline std::uint32_t KvBlock::references() const {
  return pool_->references_[index_].load(std::memory_order_acquire);
}

}  // namespace kvferry
