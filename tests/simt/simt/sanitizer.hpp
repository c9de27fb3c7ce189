// What AddressSanitizer is told of; nothing in builds without it.
#pragma once

#include <cstddef>

#if defined(KVFERRY_SIMT_ASAN)

// The emulator is compiled without ASan, so that its headers' macros would do nothing.
extern "C" {
void __asan_poison_memory_region(const volatile void* address, std::size_t size);
void __asan_unpoison_memory_region(const volatile void* address, std::size_t size);
void __sanitizer_start_switch_fiber(void** fake_stack, const void* bottom, std::size_t size);
void __sanitizer_finish_switch_fiber(void* fake_stack, const void** bottom_old,
                                     std::size_t* size_old);
}

namespace simt {
inline void poison(const void* address, std::size_t size) {
  __asan_poison_memory_region(address, size);
}
inline void unpoison(const void* address, std::size_t size) {
  __asan_unpoison_memory_region(address, size);
}
}  // namespace simt

#else

namespace simt {
inline void poison(const void*, std::size_t) {}
inline void unpoison(const void*, std::size_t) {}
}  // namespace simt

#endif
