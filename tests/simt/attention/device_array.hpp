// DeviceArray: device memory of a test, with a fence on either side.
#pragma once

#include <cstddef>
#include <cstring>
#include <vector>

#include <cuda_runtime.h>

#include <catch2/catch.hpp>

namespace kvferry::test {

// All bytes are 0xFF, NaN for every float, until they are written.
template <typename T>
class DeviceArray {
 public:
  explicit DeviceArray(std::size_t size) : size_(size) {
    void* memory = nullptr;
    REQUIRE(cudaMalloc(&memory, bytes()) == cudaSuccess);
    memory_ = static_cast<unsigned char*>(memory);
    REQUIRE(cudaMemset(memory_, 0xff, bytes()) == cudaSuccess);
  }
  explicit DeviceArray(const std::vector<T>& values) : DeviceArray(values.size()) {
    if (values.empty()) return;
    REQUIRE(cudaMemcpy(data(), values.data(), size_ * sizeof(T), cudaMemcpyHostToDevice) ==
            cudaSuccess);
  }
  ~DeviceArray() { cudaFree(memory_); }
  DeviceArray(const DeviceArray&) = delete;
  DeviceArray& operator=(const DeviceArray&) = delete;

  T* data() const { return reinterpret_cast<T*>(memory_ + kFenceBytes); }
  std::size_t size() const { return size_; }

  // Fails the test when a fence was written to.
  std::vector<T> values() const {
    std::vector<unsigned char> all(bytes());
    REQUIRE(cudaMemcpy(all.data(), memory_, all.size(), cudaMemcpyDeviceToHost) == cudaSuccess);
    bool is_intact = true;
    for (std::size_t i = 0; i < kFenceBytes; ++i) {
      is_intact = is_intact && all[i] == 0xff && all[all.size() - 1 - i] == 0xff;
    }
    REQUIRE(is_intact);
    std::vector<T> result(size_);
    if (size_ > 0) std::memcpy(result.data(), all.data() + kFenceBytes, size_ * sizeof(T));
    return result;
  }

 private:
  static constexpr std::size_t kFenceBytes = 256;
  std::size_t bytes() const { return size_ * sizeof(T) + 2 * kFenceBytes; }

  std::size_t size_;
  unsigned char* memory_ = nullptr;
};

}  // namespace kvferry::test
