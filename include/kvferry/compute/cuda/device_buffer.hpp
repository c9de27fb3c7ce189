// DeviceBuffer: memory of the CUDA device.
#pragma once

#include <cstddef>
#include <string>
#include <utility>

#include "kvferry/core/result.hpp"
#include "kvferry/core/span.hpp"

namespace kvferry::cuda {

// Owned by one object; freed with it, once the device has done what was queued.
class DeviceBuffer {
 public:
  DeviceBuffer() = default;  // none
  DeviceBuffer(DeviceBuffer&& other) noexcept
      : data_(std::exchange(other.data_, nullptr)), bytes_(std::exchange(other.bytes_, 0)) {}
  DeviceBuffer& operator=(DeviceBuffer&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(bytes_, other.bytes_);
    return *this;
  }
  ~DeviceBuffer();

  // With these contents, or empty for none. `what` is named in errors.
  static Result<DeviceBuffer> of(Bytes contents, const std::string& what);

  // At least `bytes`; contents are lost when it grows. kResourceExhausted with what is needed and
  // what is free.
  Status reserve(std::size_t bytes, const std::string& what);

  void* data() const { return data_; }
  template <typename T>
  T* as() const {
    return static_cast<T*>(data_);
  }
  std::size_t bytes() const { return bytes_; }

 private:
  void* data_ = nullptr;
  std::size_t bytes_ = 0;
};

}  // namespace kvferry::cuda
