// KvMemory: where the blocks of a KvPool lie, in the process's own memory or in a device's.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <new>
#include <string>

#include "kvferry/core/result.hpp"

namespace kvferry {

// `count` pieces of `bytes` each, their beginnings that far apart at either end.
struct KvPieces {
  std::size_t bytes = 0;
  std::size_t count = 0;
  std::size_t to_stride = 0;
  std::size_t from_stride = 0;
};

// A block's address (KvBlock::data) is an address of its pool's memory: paths that compute there
// use it directly, everything else goes through these copies. A copy is done when it returns, and
// is called from any thread. Errors: kResourceExhausted for room that cannot be had, kIo naming the
// device for one that fails.
class KvMemory {
 public:
  virtual ~KvMemory() = default;
  // "host", or the name of a device, as messages have it.
  virtual const char* name() const = 0;
  // Aligned to kAlignment. Contents are indeterminate.
  virtual Result<std::uint8_t*> allocate(std::size_t bytes) = 0;
  virtual void release(std::uint8_t* base) noexcept = 0;

  // From a block to the process's memory.
  virtual Status read(std::uint8_t* to, const std::uint8_t* block, const KvPieces& pieces) = 0;
  // From the process's memory to a block.
  virtual Status write(std::uint8_t* block, const std::uint8_t* from, const KvPieces& pieces) = 0;
  // From a block to another block.
  virtual Status move(std::uint8_t* to, const std::uint8_t* from, const KvPieces& pieces) = 0;

  static constexpr std::size_t kAlignment = 64;
};

// The process's own. A page becomes resident when it is first written.
class HostMemory final : public KvMemory {
 public:
  static std::shared_ptr<KvMemory> get() {
    static const std::shared_ptr<KvMemory> memory = std::make_shared<HostMemory>();
    return memory;
  }

  const char* name() const override { return "host"; }
  Result<std::uint8_t*> allocate(std::size_t bytes) override {
    void* const base = ::operator new (bytes, std::align_val_t{kAlignment}, std::nothrow);
    if (base != nullptr) return static_cast<std::uint8_t*>(base);
    return Error(ErrorCode::kResourceExhausted,
                 "cannot reserve " + std::to_string(bytes) + " bytes");
  }
  void release(std::uint8_t* base) noexcept override {
    ::operator delete (base, std::align_val_t{kAlignment});
  }
  Status read(std::uint8_t* to, const std::uint8_t* block, const KvPieces& pieces) override {
    return copy(to, block, pieces);
  }
  Status write(std::uint8_t* block, const std::uint8_t* from, const KvPieces& pieces) override {
    return copy(block, from, pieces);
  }
  Status move(std::uint8_t* to, const std::uint8_t* from, const KvPieces& pieces) override {
    return copy(to, from, pieces);
  }

 private:
  static Status copy(std::uint8_t* to, const std::uint8_t* from, const KvPieces& pieces) {
    for (std::size_t i = 0; i < pieces.count; ++i) {
      std::memcpy(to, from, pieces.bytes);
      to += pieces.to_stride;
      from += pieces.from_stride;
    }
    return Status();
  }
};

}  // namespace kvferry
