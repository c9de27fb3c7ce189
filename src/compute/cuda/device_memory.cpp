#include "kvferry/compute/cuda/device_memory.hpp"

#include <algorithm>
#include <utility>

#include "check.hpp"

namespace kvferry::cuda {
namespace {

Status copy(std::uint8_t* to, const std::uint8_t* from, const KvPieces& pieces,
            cudaMemcpyKind kind) {
  if (pieces.count == 0 || pieces.bytes == 0) return Status();
  const char* const what = "copy rows of a KV cache";
  // A single piece has any stride.
  KVFERRY_TRY(check(
      cudaMemcpy2D(to, std::max(pieces.to_stride, pieces.bytes), from,
                   std::max(pieces.from_stride, pieces.bytes), pieces.bytes, pieces.count, kind),
      what));
  // The call may return before the bytes are where they belong.
  return check(cudaStreamSynchronize(nullptr), what);
}

}  // namespace

std::shared_ptr<KvMemory> DeviceMemory::get() {
  static const std::shared_ptr<KvMemory> memory = std::make_shared<DeviceMemory>();
  return memory;
}

Result<std::uint8_t*> DeviceMemory::allocate(std::size_t bytes) {
  DeviceBuffer buffer;  // aligned to 256
  KVFERRY_TRY(buffer.reserve(bytes, "the KV pool"));
  std::uint8_t* const base = buffer.as<std::uint8_t>();
  const std::lock_guard<std::mutex> lock(mutex_);
  buffers_.emplace(base, std::move(buffer));
  return base;
}

void DeviceMemory::release(std::uint8_t* base) noexcept {
  const std::lock_guard<std::mutex> lock(mutex_);
  buffers_.erase(base);
}

Status DeviceMemory::read(std::uint8_t* to, const std::uint8_t* block, const KvPieces& pieces) {
  return copy(to, block, pieces, cudaMemcpyDeviceToHost);
}

Status DeviceMemory::write(std::uint8_t* block, const std::uint8_t* from, const KvPieces& pieces) {
  return copy(block, from, pieces, cudaMemcpyHostToDevice);
}

Status DeviceMemory::move(std::uint8_t* to, const std::uint8_t* from, const KvPieces& pieces) {
  return copy(to, from, pieces, cudaMemcpyDeviceToDevice);
}

}  // namespace kvferry::cuda
