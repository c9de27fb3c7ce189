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
// LaunchStatus: what a launcher returns.
#pragma once

#include <cuda_runtime.h>

namespace kvferry {
namespace kernels {

// Success, a refusal with its reason (nothing was launched), or the runtime's error of the launch.
// What kernels do wrong comes with a later call of the runtime.
struct LaunchStatus {
  cudaError_t error;
  const char* refusal;  // a literal; nullptr when it was not refused

  bool ok() const { return error == cudaSuccess; }
};

inline LaunchStatus refused(const char* reason) {
  return {cudaErrorInvalidValue, reason};
}
inline LaunchStatus launched(cudaError_t error) {
  return {error, nullptr};
}

}  // namespace kernels
}  // namespace kvferry
