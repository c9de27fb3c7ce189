// StridedSource and StridedSink: the KV memory of a foreign engine, in any order of its axes, as
// one end of a hand-off.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "kvferry/cache/import_ledger.hpp"
#include "kvferry/cache/source_sink.hpp"

namespace kvferry {

// Distances in bytes between neighbours along each axis of a plane; any order and sign.
struct KvStrides {
  std::ptrdiff_t token = 0;
  std::ptrdiff_t head = 0;
  std::ptrdiff_t value = 0;
};

// Memory that an engine owns and keeps for as long as an adapter uses it. Value d of head h of
// token t lies at plane + t * token + h * head + d * value, as geometry.type; it need not be
// aligned. K and V may be laid out differently.
struct StridedMemory {
  KvGeometry geometry;
  std::uint32_t capacity = 0;         // tokens
  std::vector<std::uint8_t*> planes;  // [layers, 2]: K and V of each layer, at token 0, head 0
  KvStrides key;
  KvStrides value;

  // All planes at fixed distances in one allocation.
  static StridedMemory contiguous(const KvGeometry& geometry, std::uint32_t capacity,
                                  std::uint8_t* base, std::ptrdiff_t layer_stride,
                                  std::ptrdiff_t plane_stride, const KvStrides& strides) {
    StridedMemory m;
    m.geometry = geometry;
    m.capacity = capacity;
    m.key = m.value = strides;
    for (std::uint32_t l = 0; l < geometry.layers; ++l) {
      for (const std::ptrdiff_t plane : {std::ptrdiff_t{0}, plane_stride})
        m.planes.push_back(base + static_cast<std::ptrdiff_t>(l) * layer_stride + plane);
    }
    return m;
  }

  // kInvalidArgument unless `range` and `bytes` of rows fit this memory.
  Status check(const KvRange& range, std::size_t bytes) const {
    KVFERRY_TRY(validate(geometry));
    KVFERRY_TRY(check_rows(geometry, range, bytes));
    if (planes.size() != std::size_t{2} * geometry.layers) {
      return Error(ErrorCode::kInvalidArgument,
                   "strided KV memory: " + std::to_string(planes.size()) + " planes for " +
                       std::to_string(geometry.layers) + " layers");
    }
    if (range.end > capacity) {
      return Error(ErrorCode::kInvalidArgument,
                   to_string(range) + ": the memory holds " + std::to_string(capacity) + " tokens");
    }
    return Status();
  }

  // Calls copy(at, offset, bytes) for every contiguous piece of `range`: `at` in this memory,
  // `offset` in its rows [tokens, kv_heads, head_dim].
  template <typename Copy>
  void for_each_piece(const KvRange& range, Copy&& copy) const {
    const std::size_t size = size_of(geometry.type);
    const KvStrides& strides = range.plane == Plane::kKey ? key : value;
    const bool whole_heads = strides.value == static_cast<std::ptrdiff_t>(size);
    const std::size_t piece = whole_heads ? geometry.head_dim * size : size;
    const std::size_t pieces = whole_heads ? 1 : geometry.head_dim;
    std::uint8_t* plane = planes[std::size_t{2} * (range.layer - geometry.first_layer) +
                                 static_cast<std::size_t>(range.plane)];
    std::size_t offset = 0;
    for (std::uint32_t t = range.begin; t < range.end; ++t) {
      for (std::uint32_t h = 0; h < geometry.kv_heads; ++h) {
        std::uint8_t* at = plane + static_cast<std::ptrdiff_t>(t) * strides.token +
                           static_cast<std::ptrdiff_t>(h) * strides.head;
        for (std::size_t d = 0; d < pieces; ++d, at += strides.value, offset += piece)
          copy(at, offset, piece);
      }
    }
  }
};

// Reads the engine's memory. Which tokens are final is the engine's knowledge: ask only for those.
class StridedSource : public KvSource {
 public:
  explicit StridedSource(StridedMemory memory) : memory_(std::move(memory)) {}

  const KvGeometry& geometry() const override { return memory_.geometry; }
  Status read(const KvRange& range, MutableBytes out) const override {
    KVFERRY_TRY(memory_.check(range, out.size()));
    memory_.for_each_piece(range, [out](const std::uint8_t* at, std::size_t offset, std::size_t n) {
      std::memcpy(out.data() + offset, at, n);
    });
    return Status();
  }

 private:
  const StridedMemory memory_;
};

// Writes rows straight to their place in the engine's memory. That is a transaction because the
// engine does not look at tokens past its length, and its length changes only in `publish`, which
// commit() calls when every row is there. So an import may only extend: begin == base_length (else
// kUnsupported), and the engine must not use positions from base_length on while it is open.
class StridedSink : public KvSink {
 public:
  // Called at commit, from the committing thread: makes tokens [plan.begin, plan.end) the engine's,
  // at a token boundary, and returns its new length and generation; or refuses (kMismatch when the
  // sequence is no longer what the plan was made for) and changes nothing.
  using Publish = std::function<Result<KvCommit>(const KvImportPlan& plan)>;

  StridedSink(StridedMemory memory, Publish publish)
      : memory_(std::move(memory)), publish_(std::move(publish)) {}

  const KvGeometry& geometry() const override { return memory_.geometry; }

  Status begin(const KvImportPlan& plan) override {
    KVFERRY_TRY(validate(memory_.geometry));
    if (plan.begin > plan.end || plan.tokens.size() != plan.end - plan.begin) {
      return Error(ErrorCode::kInvalidArgument, "KV import: tokens [" + std::to_string(plan.begin) +
                                                    ", " + std::to_string(plan.end) + ") with " +
                                                    std::to_string(plan.tokens.size()) + " ids");
    }
    if (plan.begin != plan.base_length) {
      return Error(ErrorCode::kUnsupported,
                   "KV import: strided memory is written in place and can only be extended; tokens "
                   "from " +
                       std::to_string(plan.begin) + " on would replace some below the length " +
                       std::to_string(plan.base_length));
    }
    if (plan.end > memory_.capacity) {
      return Error(ErrorCode::kResourceExhausted, "KV import: " + std::to_string(plan.end) +
                                                      " tokens needed, the memory holds " +
                                                      std::to_string(memory_.capacity));
    }
    const std::lock_guard<std::mutex> lock(mutex_);
    if (import_) return Error(ErrorCode::kProtocol, "KV import: another import is open");
    import_ = std::make_shared<Import>(memory_.geometry, plan);
    return Status();
  }

  Status write(const KvRange& range, Bytes rows) override {
    KVFERRY_ASSIGN(const std::shared_ptr<Import> import, open_import());
    KVFERRY_TRY(memory_.check(range, rows.size()));
    return import->ledger.write(range, [&] {
      memory_.for_each_piece(range, [rows](std::uint8_t* at, std::size_t offset, std::size_t n) {
        std::memcpy(at, rows.data() + offset, n);
      });
      return Status();
    });
  }

  Result<KvCommit> commit() override {
    KVFERRY_ASSIGN(const std::shared_ptr<Import> import, open_import());
    KVFERRY_ASSIGN(const KvCommit done,
                   import->ledger.commit([&] { return publish_(import->plan); }));
    close(import);
    return done;
  }

  void abort() noexcept override {
    const std::shared_ptr<Import> import = close(nullptr);
    if (import) import->ledger.abort();
  }

 private:
  struct Import {
    Import(const KvGeometry& geometry, const KvImportPlan& p)
        : plan(p), ledger(geometry, p.begin, p.end) {}
    const KvImportPlan plan;
    KvImportLedger ledger;
  };

  Result<std::shared_ptr<Import>> open_import() const {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (!import_) return Error(ErrorCode::kProtocol, "KV import: none is open; call begin() first");
    return import_;
  }
  // Forgets the open import if it is `which`, or whichever it is when null.
  std::shared_ptr<Import> close(const std::shared_ptr<Import>& which) noexcept {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (which && which != import_) return nullptr;
    return std::move(import_);
  }

  const StridedMemory memory_;
  const Publish publish_;
  mutable std::mutex mutex_;
  std::shared_ptr<Import> import_;
};

}  // namespace kvferry
