// DeviceMemory: KV cache blocks in the memory of the CUDA device.
#pragma once

#include <memory>
#include <mutex>
#include <unordered_map>

#include "kvferry/cache/memory.hpp"
#include "kvferry/compute/cuda/device_buffer.hpp"

namespace kvferry::cuda {

class DeviceMemory final : public KvMemory {
 public:
  // That of the current device.
  static std::shared_ptr<KvMemory> get();

  const char* name() const override { return "the CUDA device"; }
  Result<std::uint8_t*> allocate(std::size_t bytes) override;
  void release(std::uint8_t* base) noexcept override;
  Status read(std::uint8_t* to, const std::uint8_t* block, const KvPieces& pieces) override;
  Status write(std::uint8_t* block, const std::uint8_t* from, const KvPieces& pieces) override;
  Status move(std::uint8_t* to, const std::uint8_t* from, const KvPieces& pieces) override;

 private:
  std::mutex mutex_;
  std::unordered_map<std::uint8_t*, DeviceBuffer> buffers_;
};

}  // namespace kvferry::cuda
