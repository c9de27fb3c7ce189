#include "kvferry/compute/cuda/device_buffer.hpp"

#include "check.hpp"

namespace kvferry::cuda {

DeviceBuffer::~DeviceBuffer() {
  if (data_ != nullptr) static_cast<void>(cudaFree(data_));
}

Status DeviceBuffer::reserve(std::size_t bytes, const std::string& what) {
  if (bytes <= bytes_) return Status();
  // Before the new one: both together may be more than the device has.
  if (data_ != nullptr) KVFERRY_TRY(check(cudaFree(std::exchange(data_, nullptr)), "free " + what));
  bytes_ = 0;
  const cudaError_t status = cudaMalloc(&data_, bytes);
  if (status == cudaErrorMemoryAllocation) {
    data_ = nullptr;
    static_cast<void>(cudaGetLastError());
    std::size_t free = 0, total = 0;
    KVFERRY_TRY(check(cudaMemGetInfo(&free, &total), "ask for its memory"));
    return Error(ErrorCode::kResourceExhausted, "CUDA: " + what + " needs " +
                                                    std::to_string(bytes) + " bytes; " +
                                                    std::to_string(free) + " of the device's " +
                                                    std::to_string(total) + " are free");
  }
  KVFERRY_TRY(check(status, "allocate " + what));
  bytes_ = bytes;
  return Status();
}

Result<DeviceBuffer> DeviceBuffer::of(Bytes contents, const std::string& what) {
  DeviceBuffer buffer;
  if (contents.empty()) return buffer;
  KVFERRY_TRY(buffer.reserve(contents.size(), what));
  KVFERRY_TRY(
      check(cudaMemcpy(buffer.data_, contents.data(), contents.size(), cudaMemcpyHostToDevice),
            "copy " + what));
  return buffer;
}

}  // namespace kvferry::cuda
