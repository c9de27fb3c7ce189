// cudaMalloc and its like, copies and fills; the device's properties.
#include <cstdio>
#include <cstring>
#include <string>

#include "simt/device_memory.hpp"
#include "simt/errors.hpp"
#include "simt/stream.hpp"

namespace simt {
namespace {

cudaError_t allocate(void** pointer, std::size_t size, MemoryKind kind) {
  if (pointer == nullptr) return answer(cudaErrorInvalidValue);
  const cudaError_t status = leave_captures_alone();
  if (status != cudaSuccess) return status;
  *pointer = nullptr;
  if (size == 0) return cudaSuccess;
  *pointer = DeviceMemory::instance().allocate(size, kind);
  return *pointer == nullptr ? answer(cudaErrorMemoryAllocation) : cudaSuccess;
}

cudaError_t release(void* pointer, MemoryKind kind, const char* call) {
  if (pointer == nullptr) return cudaSuccess;
  const cudaError_t status = leave_captures_alone();
  if (status != cudaSuccess) return status;
  const std::string wrong = DeviceMemory::instance().release(pointer, kind);
  if (wrong.empty()) return cudaSuccess;
  return refuse(cudaErrorInvalidValue, std::string(call) + ": " + wrong);
}

// Whether an end of a copy is what its kind says: on the device, or in the host's own memory.
// Pinned memory is both.
std::string check_end(const void* pointer, std::size_t size, bool on_device, const char* end) {
  const auto map = DeviceMemory::instance().map();
  const Allocation* near = find_mapping(*map, pointer);
  const bool is_device = near != nullptr && near->kind == MemoryKind::kDevice;
  const auto wrong = [end](const char* what) { return std::string(end) + " " + what; };
  if (near != nullptr && find_allocation(*map, pointer, size) == nullptr) {
    return wrong("leaves its allocation");
  }
  if (on_device && near == nullptr) return wrong("is not device memory");
  if (!on_device && is_device) return wrong("is device memory");
  return "";
}

std::string check_copy(const void* to, const void* from, std::size_t size, cudaMemcpyKind kind) {
  bool to_device = kind == cudaMemcpyHostToDevice || kind == cudaMemcpyDeviceToDevice;
  bool from_device = kind == cudaMemcpyDeviceToHost || kind == cudaMemcpyDeviceToDevice;
  if (kind == cudaMemcpyDefault) {
    const auto map = DeviceMemory::instance().map();
    to_device = find_mapping(*map, to) != nullptr;
    from_device = find_mapping(*map, from) != nullptr;
  }
  std::string wrong = check_end(to, size, to_device, "the destination");
  if (wrong.empty()) wrong = check_end(from, size, from_device, "the source");
  return wrong;
}

cudaError_t copy(void* to, const void* from, std::size_t size, cudaMemcpyKind kind,
                 const char* call) {
  if (size == 0) return cudaSuccess;
  const std::string wrong = check_copy(to, from, size, kind);
  if (!wrong.empty()) return refuse(cudaErrorInvalidValue, std::string(call) + ": " + wrong);
  std::memmove(to, from, size);
  return cudaSuccess;
}

cudaError_t fill(void* to, int value, std::size_t size, const char* call) {
  if (size == 0) return cudaSuccess;
  const std::string wrong = check_end(to, size, true, "the destination");
  if (!wrong.empty()) return refuse(cudaErrorInvalidValue, std::string(call) + ": " + wrong);
  std::memset(to, value, size);
  return cudaSuccess;
}

}  // namespace
}  // namespace simt

using simt::answer;
using simt::MemoryKind;

cudaError_t cudaMalloc(void** pointer, std::size_t size) {
  return simt::allocate(pointer, size, MemoryKind::kDevice);
}

cudaError_t cudaFree(void* pointer) {
  return simt::release(pointer, MemoryKind::kDevice, "cudaFree");
}

cudaError_t cudaMallocHost(void** pointer, std::size_t size) {
  return simt::allocate(pointer, size, MemoryKind::kPinned);
}

cudaError_t cudaFreeHost(void* pointer) {
  return simt::release(pointer, MemoryKind::kPinned, "cudaFreeHost");
}

cudaError_t cudaMemGetInfo(std::size_t* free, std::size_t* total) {
  const std::size_t used = simt::DeviceMemory::instance().used_bytes();
  *total = simt::settings().memory_bytes;
  *free = used < *total ? *total - used : 0;
  return cudaSuccess;
}

cudaError_t cudaMemcpy(void* to, const void* from, std::size_t size, cudaMemcpyKind kind) {
  const cudaError_t status = simt::leave_captures_alone();
  return status != cudaSuccess ? status : simt::copy(to, from, size, kind, "cudaMemcpy");
}

cudaError_t cudaMemcpyAsync(void* to, const void* from, std::size_t size, cudaMemcpyKind kind,
                            cudaStream_t stream) {
  return simt::submit(stream, "cudaMemcpyAsync",
                      [=] { return simt::copy(to, from, size, kind, "cudaMemcpyAsync"); });
}

cudaError_t cudaMemset(void* to, int value, std::size_t size) {
  const cudaError_t status = simt::leave_captures_alone();
  return status != cudaSuccess ? status : simt::fill(to, value, size, "cudaMemset");
}

cudaError_t cudaMemsetAsync(void* to, int value, std::size_t size, cudaStream_t stream) {
  return simt::submit(stream, "cudaMemsetAsync",
                      [=] { return simt::fill(to, value, size, "cudaMemsetAsync"); });
}

cudaError_t cudaGetDeviceCount(int* count) {
  *count = 1;
  return cudaSuccess;
}

cudaError_t cudaGetDevice(int* device) {
  *device = 0;
  return cudaSuccess;
}

cudaError_t cudaSetDevice(int device) {
  return device == 0 ? cudaSuccess : answer(cudaErrorInvalidDevice);
}

cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int device) {
  if (device != 0) return answer(cudaErrorInvalidDevice);
  const simt::Settings& settings = simt::settings();
  *properties = cudaDeviceProp{};
  std::snprintf(properties->name, sizeof properties->name, "emulated SIMT machine");
  properties->totalGlobalMem = settings.memory_bytes;
  properties->sharedMemPerBlock = 48 * 1024;
  properties->sharedMemPerBlockOptin = static_cast<std::size_t>(settings.max_shared_bytes);
  properties->multiProcessorCount = settings.multiprocessors;
  properties->major = settings.compute_major;
  properties->minor = settings.compute_minor;
  return cudaSuccess;
}

cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int device) {
  if (device != 0) return answer(cudaErrorInvalidDevice);
  const simt::Settings& settings = simt::settings();
  switch (attribute) {
    case cudaDevAttrMaxSharedMemoryPerBlock:
      *value = 48 * 1024;
      return cudaSuccess;
    case cudaDevAttrMultiProcessorCount:
      *value = settings.multiprocessors;
      return cudaSuccess;
    case cudaDevAttrComputeCapabilityMajor:
      *value = settings.compute_major;
      return cudaSuccess;
    case cudaDevAttrComputeCapabilityMinor:
      *value = settings.compute_minor;
      return cudaSuccess;
    case cudaDevAttrMaxSharedMemoryPerBlockOptin:
      *value = settings.max_shared_bytes;
      return cudaSuccess;
  }
  return answer(cudaErrorInvalidValue);
}
