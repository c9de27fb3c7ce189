// AlignedBuffer: memory that starts on a cache line.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <new>

namespace kvferry::cpu {

constexpr std::size_t kCacheLine = 64;

// Owns its bytes; movable. Contents are undefined until written.
class AlignedBuffer {
 public:
  AlignedBuffer() = default;
  explicit AlignedBuffer(std::size_t bytes) { grow(bytes); }

  // At least `bytes` long afterwards. What it held is lost when it has to grow.
  void grow(std::size_t bytes) {
    if (bytes <= size_) return;
    memory_.reset();
    size_ = 0;
    memory_.reset(static_cast<std::uint8_t*>(::operator new (bytes, std::align_val_t{kCacheLine})));
    size_ = bytes;
  }

  std::size_t size() const { return size_; }
  std::uint8_t* data() { return memory_.get(); }
  const std::uint8_t* data() const { return memory_.get(); }
  template <typename T>
  T* as() {
    return reinterpret_cast<T*>(memory_.get());
  }
  template <typename T>
  const T* as() const {
    return reinterpret_cast<const T*>(memory_.get());
  }

 private:
  struct Free {
    void operator()(std::uint8_t* p) const { ::operator delete (p, std::align_val_t{kCacheLine}); }
  };
  std::unique_ptr<std::uint8_t, Free> memory_;
  std::size_t size_ = 0;
};

}  // namespace kvferry::cpu
