// KvSource and KvSink: the two interfaces that make a foreign engine's KV memory equal to ours.
// An engine that implements them can send and receive caches with kvferry::core alone.
#pragma once

#include <cstdint>
#include <vector>

#include "kvferry/cache/geometry.hpp"
#include "kvferry/core/result.hpp"
#include "kvferry/core/span.hpp"

namespace kvferry {

using TokenId = std::uint32_t;

// Reads K and V rows that are final. Implementations are safe to call from several threads for
// ranges that nobody writes.
class KvSource {
 public:
  virtual ~KvSource() = default;
  virtual const KvGeometry& geometry() const = 0;
  // Writes rows [tokens, kv_heads, head_dim] of geometry().type, little-endian, to `out`, which has
  // range.tokens() * geometry().row_bytes() bytes. Error kInvalidArgument outside of what it holds.
  virtual Status read(const KvRange& range, MutableBytes out) const = 0;
};

// What an import is made for. `base_length` and `generation` are what the sequence had when the
// import was agreed; the commit merges with tokens that were appended since (they stay), and is
// refused (kMismatch) when the sequence was changed in another way.
struct KvImportPlan {
  std::uint64_t generation = 0;   // of the sequence that it extends; 0 for a new one
  std::uint32_t base_length = 0;  // tokens of the sequence when the import was agreed
  std::uint32_t begin = 0;        // the import covers tokens [begin, end) of every layer and plane
  std::uint32_t end = 0;          // begin <= base_length: tokens [begin, base_length) are replaced
  std::vector<TokenId> tokens;    // ids of tokens [begin, end)
};

// What a commit made of the sequence.
struct KvCommit {
  std::uint64_t generation = 0;
  std::uint32_t length = 0;  // tokens
};

// Takes an import as a transaction: begin, write in any order (each row once, from any thread),
// commit or abort. Before commit() succeeds, and after abort(), nothing of it is visible.
class KvSink {
 public:
  virtual ~KvSink() = default;
  virtual const KvGeometry& geometry() const = 0;
  // Reserves what the import needs. kResourceExhausted when it does not fit, kMismatch when the
  // plan does not fit the sequence.
  virtual Status begin(const KvImportPlan& plan) = 0;
  // Rows [tokens, kv_heads, head_dim] of geometry().type, little-endian.
  virtual Status write(const KvRange& range, Bytes rows) = 0;
  // Takes effect in one step, or fails and changes nothing. kIncomplete names what is missing.
  virtual Result<KvCommit> commit() = 0;
  // Drops everything written since begin(). Harmless when there is nothing to drop.
  virtual void abort() noexcept = 0;
};

}  // namespace kvferry
