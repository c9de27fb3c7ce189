// The functions that GCC's -fsanitize=thread makes code call, here in place of libtsan's: accesses
// of kernels go to the detector, everything else passes.
#include <cstddef>
#include <cstdint>

#include "race/detector.hpp"

namespace {

simt::Detector& detector() {
  static simt::Detector detector;
  return detector;
}

void touch(simt::Access kind, const void* pointer, std::size_t size, std::size_t alignment,
           const void* code) {
  if (simt::BlockRunner::current() != nullptr) {
    detector().instrumented_access(kind, pointer, size, alignment, code);
  }
}

constexpr simt::Access kRead = simt::Access::kRead;
constexpr simt::Access kWrite = simt::Access::kWrite;

}  // namespace

#define KVFERRY_CODE __builtin_return_address(0)
#define KVFERRY_ACCESS(bytes)                     \
  void __tsan_read##bytes(void* p) {              \
    touch(kRead, p, bytes, bytes, KVFERRY_CODE);  \
  }                                               \
  void __tsan_write##bytes(void* p) {             \
    touch(kWrite, p, bytes, bytes, KVFERRY_CODE); \
  }                                               \
  void __tsan_unaligned_read##bytes(void* p) {    \
    touch(kRead, p, bytes, 1, KVFERRY_CODE);      \
  }                                               \
  void __tsan_unaligned_write##bytes(void* p) {   \
    touch(kWrite, p, bytes, 1, KVFERRY_CODE);     \
  }                                               \
  void __tsan_volatile_read##bytes(void* p) {     \
    touch(kRead, p, bytes, bytes, KVFERRY_CODE);  \
  }                                               \
  void __tsan_volatile_write##bytes(void* p) {    \
    touch(kWrite, p, bytes, bytes, KVFERRY_CODE); \
  }

// Atomics of the host's C++; kernels use CUDA's.
#define KVFERRY_ATOMIC(bits, T)                                                                    \
  T __tsan_atomic##bits##_load(const volatile T* p, int) {                                         \
    return __atomic_load_n(p, __ATOMIC_SEQ_CST);                                                   \
  }                                                                                                \
  void __tsan_atomic##bits##_store(volatile T* p, T value, int) {                                  \
    __atomic_store_n(p, value, __ATOMIC_SEQ_CST);                                                  \
  }                                                                                                \
  T __tsan_atomic##bits##_exchange(volatile T* p, T value, int) {                                  \
    return __atomic_exchange_n(p, value, __ATOMIC_SEQ_CST);                                        \
  }                                                                                                \
  T __tsan_atomic##bits##_fetch_add(volatile T* p, T value, int) {                                 \
    return __atomic_fetch_add(p, value, __ATOMIC_SEQ_CST);                                         \
  }                                                                                                \
  T __tsan_atomic##bits##_fetch_sub(volatile T* p, T value, int) {                                 \
    return __atomic_fetch_sub(p, value, __ATOMIC_SEQ_CST);                                         \
  }                                                                                                \
  int __tsan_atomic##bits##_compare_exchange_strong(volatile T* p, T* expected, T value, int,      \
                                                    int) {                                         \
    return __atomic_compare_exchange_n(p, expected, value, false, __ATOMIC_SEQ_CST,                \
                                       __ATOMIC_SEQ_CST)                                           \
               ? 1                                                                                 \
               : 0;                                                                                \
  }                                                                                                \
  int __tsan_atomic##bits##_compare_exchange_weak(volatile T* p, T* expected, T value, int, int) { \
    return __tsan_atomic##bits##_compare_exchange_strong(p, expected, value, 0, 0);                \
  }

extern "C" {

void __tsan_init() {
  simt::observer() = &detector();
}
void __tsan_func_entry(void*) {}
void __tsan_func_exit() {}
void __tsan_vptr_update(void**, void*) {}
void __tsan_vptr_read(void**) {}
void __tsan_read_range(void* p, std::size_t size) {
  touch(kRead, p, size, 1, KVFERRY_CODE);
}
void __tsan_write_range(void* p, std::size_t size) {
  touch(kWrite, p, size, 1, KVFERRY_CODE);
}
void __tsan_atomic_thread_fence(int) {
  __atomic_thread_fence(__ATOMIC_SEQ_CST);
}

KVFERRY_ACCESS(1)
KVFERRY_ACCESS(2)
KVFERRY_ACCESS(4)
KVFERRY_ACCESS(8)
KVFERRY_ACCESS(16)
KVFERRY_ATOMIC(8, std::uint8_t)
KVFERRY_ATOMIC(32, std::uint32_t)
KVFERRY_ATOMIC(64, std::uint64_t)

}  // extern "C"
