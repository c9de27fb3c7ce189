// LaunchStatus: what a launcher says. C++14, where Status is not to be had.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>

#include <cuda_runtime.h>

#include "kvferry/core/error.hpp"

namespace kvferry {
namespace kernels {

// Success, or an Error. Success means that the kernel was queued.
class LaunchStatus {
 public:
  LaunchStatus() = default;
  LaunchStatus(Error error) : failed_(true), error_(std::move(error)) {}  // NOLINT: implicit

  bool ok() const { return !failed_; }
  // Only when !ok().
  const Error& error() const { return error_; }

 private:
  bool failed_ = false;
  Error error_{ErrorCode::kInternal, std::string()};
};

inline LaunchStatus invalid_launch(const std::string& message) {
  return Error(ErrorCode::kInvalidArgument, message);
}

// What the runtime said of a launch of `what`.
inline LaunchStatus launched(cudaError_t status, const std::string& what) {
  if (status == cudaSuccess) return LaunchStatus();
  return Error(ErrorCode::kInternal, what + ": " + cudaGetErrorString(status));
}

// Whether a pointer is there and is a multiple of `alignment`.
inline bool is_aligned(const void* pointer, std::size_t alignment) {
  return pointer != nullptr && reinterpret_cast<std::uintptr_t>(pointer) % alignment == 0;
}

}  // namespace kernels
}  // namespace kvferry
