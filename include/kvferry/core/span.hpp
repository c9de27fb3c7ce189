// Span<T>: a pointer and a count that do not own. C++14 (used by device code); std::span is C++20.
#pragma once

#include <array>
#include <cassert>
#include <cstddef>
#include <cstdint>
#include <string>
#include <type_traits>
#include <vector>

namespace kvferry {

template <typename T>
class Span {
 public:
  using value_type = typename std::remove_const<T>::type;

  constexpr Span() = default;
  constexpr Span(T* data, std::size_t size) : data_(data), size_(size) {}
  template <std::size_t N>
  constexpr Span(T (&array)[N]) : data_(array), size_(N) {}  // NOLINT: implicit by design
  template <std::size_t N>
  constexpr Span(const std::array<value_type, N>& a) : data_(a.data()), size_(N) {}  // NOLINT
  template <std::size_t N>
  constexpr Span(std::array<value_type, N>& a) : data_(a.data()), size_(N) {}  // NOLINT
  Span(std::vector<value_type>& v) : data_(v.data()), size_(v.size()) {}       // NOLINT
  template <typename U = T, typename = typename std::enable_if<std::is_const<U>::value>::type>
  Span(const std::vector<value_type>& v) : data_(v.data()), size_(v.size()) {}  // NOLINT
  // Span<T> -> Span<const T>
  template <typename U, typename = typename std::enable_if<std::is_same<const U, T>::value>::type>
  constexpr Span(const Span<U>& other) : data_(other.data()), size_(other.size()) {}  // NOLINT

  constexpr T* data() const { return data_; }
  constexpr std::size_t size() const { return size_; }
  constexpr bool empty() const { return size_ == 0; }
  constexpr T* begin() const { return data_; }
  constexpr T* end() const { return data_ + size_; }
  T& operator[](std::size_t i) const {
    assert(i < size_);
    return data_[i];
  }
  T& front() const { return (*this)[0]; }
  T& back() const { return (*this)[size_ - 1]; }

  // [offset, offset + count); the caller guarantees that it lies inside.
  Span subspan(std::size_t offset, std::size_t count) const {
    assert(offset <= size_ && count <= size_ - offset);
    return Span(data_ + offset, count);
  }
  Span subspan(std::size_t offset) const {
    assert(offset <= size_);
    return Span(data_ + offset, size_ - offset);
  }
  Span first(std::size_t count) const { return subspan(0, count); }

 private:
  T* data_ = nullptr;
  std::size_t size_ = 0;
};

// Bytes that are only looked at, and bytes that are written.
using Bytes = Span<const std::uint8_t>;
using MutableBytes = Span<std::uint8_t>;

// The bytes of a trivially copyable array, as they lie in memory.
template <typename T>
Bytes as_bytes(Span<T> s) {
  static_assert(std::is_trivially_copyable<T>::value, "only plain data has bytes");
  return Bytes(reinterpret_cast<const std::uint8_t*>(s.data()), s.size() * sizeof(T));
}
template <typename T>
MutableBytes as_mutable_bytes(Span<T> s) {
  static_assert(std::is_trivially_copyable<T>::value && !std::is_const<T>::value, "plain data");
  return MutableBytes(reinterpret_cast<std::uint8_t*>(s.data()), s.size() * sizeof(T));
}
inline Bytes as_bytes(const std::string& s) {
  return Bytes(reinterpret_cast<const std::uint8_t*>(s.data()), s.size());
}

}  // namespace kvferry
