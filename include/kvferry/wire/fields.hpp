// FieldReader and FieldWriter: one description of a message's fields serves both directions, so
// that what parses serializes to the same bytes. A description is a function
//
//   template <typename Io> void fields(Io& io, Goodbye& message);
//
// that names each field once, in wire order, with its cap and its rules. Both classes remember the
// first rule that was broken and do nothing after it.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "kvferry/core/bytes.hpp"
#include "kvferry/core/result.hpp"
#include "kvferry/wire/text.hpp"

namespace kvferry::wire {

// What both directions share: the first broken rule, and the rules themselves.
class FieldRules {
 public:
  bool ok() const { return status_.ok(); }
  const Status& status() const { return status_; }

  // `what` completes the sentence "<message>.<field> …".
  void require(bool holds, const char* field, const char* what) {
    if (!holds) fail(std::string(".") + field + " " + what);
  }
  void require(bool holds, const char* field, const std::string& what) {
    require(holds, field, what.c_str());
  }

 protected:
  // `code` is that of a broken rule: kMalformed while reading, kInvalidArgument while writing.
  FieldRules(const char* message, ErrorCode code) : message_(message), code_(code) {}
  ~FieldRules() = default;

  // `what` follows the message's name.
  void fail(const std::string& what) {
    if (ok()) status_ = Error(code_, message_ + what);
  }
  void require_length(std::size_t length, std::uint32_t cap, const char* field) {
    require(length <= cap, field,
            "has " + std::to_string(length) + " bytes; at most " + std::to_string(cap) +
                " are allowed");
  }
  void require_count(std::size_t count, std::uint32_t cap, const char* field) {
    require(count <= cap, field,
            "has " + std::to_string(count) + " entries; at most " + std::to_string(cap) +
                " are allowed");
  }
  void require_line(const std::string& s, const char* field) {
    require(is_line(s), field, "is not one line of UTF-8 without control characters");
  }
  void require_utf8(const std::string& s, const char* field) {
    require(is_utf8(s), field, "is not valid UTF-8");
  }

 private:
  const char* message_;
  ErrorCode code_;
  Status status_;
};

class FieldReader : public FieldRules {
 public:
  static constexpr bool kReads = true;

  FieldReader(const char* message, Bytes bytes)
      : FieldRules(message, ErrorCode::kMalformed), in_(bytes) {}

  // An integer of the field's own width, little-endian.
  template <typename T>
  void integer(const char* field, T& value) {
    static_assert(std::is_integral<T>::value && !std::is_same<T, bool>::value, "an integer");
    value = static_cast<T>(take(field, sizeof(T)));
  }
  // One byte that is 0 or 1.
  void boolean(const char* field, bool& value) {
    const std::uint64_t byte = take(field, 1);
    require(byte <= 1, field, "is " + std::to_string(byte) + ", not 0 or 1");
    value = byte == 1;
  }
  // An enum by its number, at most `last`.
  template <typename E>
  void enumeration(const char* field, E& value, E last) {
    using Number = std::underlying_type_t<E>;
    const std::uint64_t number = take(field, sizeof(Number));
    require(number <= static_cast<Number>(last), field,
            "is " + std::to_string(number) + ", a number that version 1 does not define");
    if (ok()) value = static_cast<E>(number);
  }
  // A finite IEEE binary32 or binary64.
  void real(const char* field, float& value) {
    value = float_from_bits(static_cast<std::uint32_t>(take(field, sizeof value)));
    require(std::isfinite(value), field, "is not finite");
  }
  void real(const char* field, double& value) {
    const std::uint64_t bits = take(field, sizeof value);
    std::memcpy(&value, &bits, sizeof value);
    require(std::isfinite(value), field, "is not finite");
  }
  // As many bytes as the array has.
  template <std::size_t N>
  void identifier(const char* field, std::array<std::uint8_t, N>& value) {
    const Bytes bytes = take_raw(field, N);
    if (ok()) std::copy(bytes.begin(), bytes.end(), value.begin());
  }
  // A u32 length and as many bytes: anything, UTF-8, or one line of UTF-8.
  void bytes(const char* field, std::string& value, std::uint32_t cap) {
    std::uint32_t length = 0;
    integer(field, length);
    require_length(length, cap, field);
    const Bytes raw = take_raw(field, length);
    value.assign(raw.begin(), raw.end());
  }
  void utf8(const char* field, std::string& value, std::uint32_t cap) {
    bytes(field, value, cap);
    require_utf8(value, field);
  }
  void line(const char* field, std::string& value, std::uint32_t cap) {
    bytes(field, value, cap);
    require_line(value, field);
  }
  // A u32 count and as many entries, each described by each(entry) and at least `entry_bytes` long,
  // so that a count which the payload cannot hold is refused before memory is taken.
  template <typename T, typename Each>
  void list(const char* field, std::vector<T>& entries, std::uint32_t cap, std::size_t entry_bytes,
            Each each) {
    std::uint32_t count = 0;
    integer(field, count);
    require_count(count, cap, field);
    require(count <= in_.remaining() / entry_bytes, field,
            "has " + std::to_string(count) + " entries, more than the rest of the payload holds");
    entries.clear();
    if (!ok()) return;
    entries.resize(count);
    for (std::size_t i = 0; i < count && ok(); ++i) each(entries[i]);
  }
  // All bytes up to the end of the payload, without a length of their own.
  void rest(const char* field, Bytes& value) { value = take_raw(field, in_.remaining()); }

  // Success when every field was read and nothing is left over.
  Status finish() {
    if (in_.remaining() != 0) {
      fail(" has " + std::to_string(in_.remaining()) + " bytes after its last field, at byte " +
           std::to_string(in_.offset()));
    }
    return status();
  }

 private:
  Bytes take_raw(const char* field, std::size_t count) {
    if (!ok()) return Bytes();
    if (count > in_.remaining()) {
      fail(std::string(".") + field + " is cut off: " + std::to_string(count) +
           " bytes needed at byte " + std::to_string(in_.offset()) + " of the payload, " +
           std::to_string(in_.remaining()) + " are there");
      return Bytes();
    }
    return in_.raw(count);
  }
  std::uint64_t take(const char* field, std::size_t width) {
    std::uint64_t value = 0;
    const Bytes bytes = take_raw(field, width);
    for (std::size_t i = 0; i < bytes.size(); ++i) {
      value |= static_cast<std::uint64_t>(bytes[i]) << (8 * i);
    }
    return value;
  }

  ByteReader in_;
};

// The same calls, writing. Appends to a vector that the caller owns; what was appended before a
// broken rule stays there for the caller to drop.
class FieldWriter : public FieldRules {
 public:
  static constexpr bool kReads = false;

  FieldWriter(const char* message, std::vector<std::uint8_t>& out)
      : FieldRules(message, ErrorCode::kInvalidArgument), out_(out) {}

  template <typename T>
  void integer(const char*, const T& value) {
    static_assert(std::is_integral<T>::value && !std::is_same<T, bool>::value, "an integer");
    put(static_cast<std::uint64_t>(value), sizeof(T));
  }
  void boolean(const char*, const bool& value) { put(value ? 1 : 0, 1); }
  template <typename E>
  void enumeration(const char* field, const E& value, E last) {
    using Number = std::underlying_type_t<E>;
    require(static_cast<Number>(value) <= static_cast<Number>(last), field,
            "is a number that version 1 does not define");
    put(static_cast<Number>(value), sizeof(Number));
  }
  void real(const char* field, const float& value) {
    require(std::isfinite(value), field, "is not finite");
    put(float_bits(value), sizeof value);
  }
  void real(const char* field, const double& value) {
    require(std::isfinite(value), field, "is not finite");
    std::uint64_t bits;
    std::memcpy(&bits, &value, sizeof bits);
    put(bits, sizeof bits);
  }
  template <std::size_t N>
  void identifier(const char*, const std::array<std::uint8_t, N>& value) {
    if (ok()) out_.raw(value);
  }
  void bytes(const char* field, const std::string& value, std::uint32_t cap) {
    require_length(value.size(), cap, field);
    if (ok()) out_.string(value);
  }
  void utf8(const char* field, const std::string& value, std::uint32_t cap) {
    require_utf8(value, field);
    bytes(field, value, cap);
  }
  void line(const char* field, const std::string& value, std::uint32_t cap) {
    require_line(value, field);
    bytes(field, value, cap);
  }
  template <typename T, typename Each>
  void list(const char* field, std::vector<T>& entries, std::uint32_t cap, std::size_t, Each each) {
    require_count(entries.size(), cap, field);
    put(entries.size(), sizeof(std::uint32_t));
    for (std::size_t i = 0; i < entries.size() && ok(); ++i) each(entries[i]);
  }
  void rest(const char*, const Bytes& value) {
    if (ok()) out_.raw(value);
  }

 private:
  void put(std::uint64_t value, std::size_t width) {
    if (!ok()) return;
    for (std::size_t i = 0; i < width; ++i) out_.u8(static_cast<std::uint8_t>(value >> (8 * i)));
  }

  ByteWriter out_;
};

// Parses a payload by the message's field description.
template <typename Message>
Result<Message> parse_fields(const char* name, Bytes payload) {
  FieldReader reader(name, payload);
  Message message;
  fields(reader, message);
  KVFERRY_TRY(reader.finish());
  return message;
}

// Appends a message by its field description; appends nothing when a rule is broken.
template <typename Message>
Status write_fields(const char* name, const Message& message, std::vector<std::uint8_t>& out) {
  const std::size_t size_before = out.size();
  FieldWriter writer(name, out);
  // A description takes the message mutable because a reader fills it; a writer only looks.
  fields(writer, const_cast<Message&>(message));
  if (!writer.ok()) out.resize(size_before);
  return writer.status();
}

}  // namespace kvferry::wire
