// DeviceArray: device memory of a test between fences, by value in and out. C++14.
#pragma once

#include <cstddef>
#include <cstring>
#include <vector>

#include <catch2/catch.hpp>
#include <cuda_runtime.h>

namespace kvferry_test {

template <typename T>
class DeviceArray {
 public:
  // Every byte 0xFF: NaN for any float.
  explicit DeviceArray(std::size_t count) : count_(count) {
    REQUIRE(cudaMalloc(&memory_, bytes()) == cudaSuccess);
    REQUIRE(cudaMemset(memory_, 0xff, bytes()) == cudaSuccess);
  }
  explicit DeviceArray(const std::vector<T>& values) : DeviceArray(values.size()) {
    REQUIRE(cudaMemcpy(data(), values.data(), count_ * sizeof(T), cudaMemcpyHostToDevice) ==
            cudaSuccess);
  }
  ~DeviceArray() { cudaFree(memory_); }
  DeviceArray(const DeviceArray&) = delete;
  DeviceArray& operator=(const DeviceArray&) = delete;

  T* data() const { return reinterpret_cast<T*>(memory_ + kFence); }
  std::size_t size() const { return count_; }
  // Fails the test when a fence was written to.
  std::vector<T> values() const {
    std::vector<unsigned char> all(bytes());
    REQUIRE(cudaMemcpy(all.data(), memory_, all.size(), cudaMemcpyDeviceToHost) == cudaSuccess);
    bool is_intact = true;
    for (std::size_t i = 0; i < kFence; ++i) {
      is_intact = is_intact && all[i] == 0xff && all[all.size() - 1 - i] == 0xff;
    }
    REQUIRE(is_intact);
    std::vector<T> values(count_);
    if (count_ > 0) std::memcpy(values.data(), all.data() + kFence, count_ * sizeof(T));
    return values;
  }

 private:
  static constexpr std::size_t kFence = 256;  // bytes, which keeps the alignment
  std::size_t bytes() const { return count_ * sizeof(T) + 2 * kFence; }

  unsigned char* memory_ = nullptr;
  std::size_t count_;
};

}  // namespace kvferry_test
