// DeviceArray: device memory of a test. NaN-filled when made without content; the emulation fences
// it.
#pragma once

#include <cstddef>
#include <cstring>
#include <vector>

#include <catch2/catch.hpp>
#include <cuda_runtime.h>

#include "kvferry/core/span.hpp"

namespace device_test {

template <typename T>
class DeviceArray {
 public:
  // `count` elements of all ones: NaN for floating-point types.
  explicit DeviceArray(std::size_t count) : DeviceArray(std::vector<T>(count)) {
    REQUIRE(cudaMemset(data_, 0xff, count * sizeof(T)) == cudaSuccess);
  }
  explicit DeviceArray(const std::vector<T>& content)
      : DeviceArray(kvferry::as_bytes(kvferry::Span<const T>(content))) {}
  explicit DeviceArray(kvferry::Bytes content) : count_(content.size() / sizeof(T)) {
    REQUIRE(cudaMalloc(reinterpret_cast<void**>(&data_), content.size()) == cudaSuccess);
    REQUIRE(cudaMemcpy(data_, content.data(), content.size(), cudaMemcpyHostToDevice) ==
            cudaSuccess);
  }
  ~DeviceArray() { cudaFree(data_); }
  DeviceArray(const DeviceArray&) = delete;
  DeviceArray& operator=(const DeviceArray&) = delete;

  T* data() const { return data_; }
  std::vector<T> read() const {
    std::vector<T> content(count_);
    REQUIRE(cudaMemcpy(content.data(), data_, count_ * sizeof(T), cudaMemcpyDeviceToHost) ==
            cudaSuccess);
    return content;
  }

 private:
  std::size_t count_ = 0;
  T* data_ = nullptr;
};

}  // namespace device_test
