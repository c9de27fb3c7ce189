// Little-endian reader and writer that cannot overrun. All wire and file formats go through these.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

#include "kvferry/core/half.hpp"
#include "kvferry/core/span.hpp"

namespace kvferry {

// Reads fixed-width little-endian fields. The first read past the end makes the reader fail: it
// then returns zeros and ok() is false, so that a parser reads all fields of a record and checks
// once. Whoever allocates by a length that was read checks it against remaining() first.
class ByteReader {
 public:
  explicit ByteReader(Bytes bytes) : bytes_(bytes) {}

  bool ok() const { return ok_; }
  std::size_t offset() const { return offset_; }
  std::size_t remaining() const { return bytes_.size() - offset_; }
  bool at_end() const { return ok_ && remaining() == 0; }

  std::uint8_t u8() { return integer<std::uint8_t>(); }
  std::uint16_t u16() { return integer<std::uint16_t>(); }
  std::uint32_t u32() { return integer<std::uint32_t>(); }
  std::uint64_t u64() { return integer<std::uint64_t>(); }
  std::int32_t i32() { return static_cast<std::int32_t>(u32()); }
  std::int64_t i64() { return static_cast<std::int64_t>(u64()); }
  float f32() { return float_from_bits(u32()); }
  double f64() {
    const std::uint64_t u = u64();
    double d;
    std::memcpy(&d, &u, sizeof d);
    return d;
  }

  // `count` bytes as they lie in the input, or an empty span and failure.
  Bytes raw(std::uint64_t count) {
    if (!ok_ || count > remaining()) {
      ok_ = false;
      return Bytes();
    }
    const Bytes out = bytes_.subspan(offset_, static_cast<std::size_t>(count));
    offset_ += static_cast<std::size_t>(count);
    return out;
  }

  // A u32 length and as many bytes. Fails when longer than `cap`.
  std::string string(std::uint32_t cap) {
    const std::uint32_t length = u32();
    if (length > cap) ok_ = false;
    const Bytes b = raw(length);
    return std::string(reinterpret_cast<const char*>(b.data()), b.size());
  }

 private:
  template <typename T>
  T integer() {
    const Bytes b = raw(sizeof(T));
    if (!ok_) return 0;
    std::uint64_t value = 0;
    for (std::size_t i = 0; i < sizeof(T); ++i)
      value |= static_cast<std::uint64_t>(b[i]) << (8 * i);
    return static_cast<T>(value);
  }

  Bytes bytes_;
  std::size_t offset_ = 0;
  bool ok_ = true;
};

// Appends fixed-width little-endian fields to a vector that the caller owns.
class ByteWriter {
 public:
  explicit ByteWriter(std::vector<std::uint8_t>& out) : out_(out) {}

  void u8(std::uint8_t v) { out_.push_back(v); }
  void u16(std::uint16_t v) { integer(v); }
  void u32(std::uint32_t v) { integer(v); }
  void u64(std::uint64_t v) { integer(v); }
  void i32(std::int32_t v) { u32(static_cast<std::uint32_t>(v)); }
  void i64(std::int64_t v) { u64(static_cast<std::uint64_t>(v)); }
  void f32(float v) { u32(float_bits(v)); }
  void f64(double v) {
    std::uint64_t u;
    std::memcpy(&u, &v, sizeof u);
    u64(u);
  }
  void raw(Bytes bytes) { out_.insert(out_.end(), bytes.begin(), bytes.end()); }
  // A u32 length and the bytes.
  void string(const std::string& s) {
    u32(static_cast<std::uint32_t>(s.size()));
    raw(as_bytes(s));
  }

 private:
  template <typename T>
  void integer(T v) {
    for (std::size_t i = 0; i < sizeof(T); ++i) {
      out_.push_back(static_cast<std::uint8_t>(static_cast<std::uint64_t>(v) >> (8 * i)));
    }
  }

  std::vector<std::uint8_t>& out_;
};

}  // namespace kvferry
