// Two more directions for the field descriptions: bytes without any rule, to make frames that must
// be refused, and JSON, to say what a golden frame holds.
#pragma once

#include <array>
#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "kvferry/core/bytes.hpp"
#include "kvferry/core/result.hpp"
#include "kvferry/wire/serialize.hpp"

namespace kvferry_test {

class UncheckedWriter {
 public:
  static constexpr bool kReads = false;
  explicit UncheckedWriter(std::vector<std::uint8_t>& out) : out_(out) {}

  bool ok() const { return true; }
  template <typename What>
  void require(bool, const char*, const What&) {}
  template <typename T>
  void integer(const char*, const T& value) {
    put(static_cast<std::uint64_t>(value), sizeof(T));
  }
  void boolean(const char*, const bool& value) { put(value ? 1 : 0, 1); }
  template <typename E>
  void enumeration(const char*, const E& value, E) {
    put(static_cast<std::uint64_t>(value), sizeof(E));
  }
  void real(const char*, const float& value) { out_.f32(value); }
  void real(const char*, const double& value) { out_.f64(value); }
  template <std::size_t N>
  void identifier(const char*, const std::array<std::uint8_t, N>& value) {
    out_.raw(value);
  }
  void bytes(const char*, const std::string& value, std::uint32_t) { out_.string(value); }
  void utf8(const char*, const std::string& value, std::uint32_t) { out_.string(value); }
  void line(const char*, const std::string& value, std::uint32_t) { out_.string(value); }
  template <typename T, typename Each>
  void list(const char*, std::vector<T>& entries, std::uint32_t, std::size_t, Each each) {
    out_.u32(static_cast<std::uint32_t>(entries.size()));
    for (T& entry : entries) each(entry);
  }
  void rest(const char*, const kvferry::Bytes& value) { out_.raw(value); }

 private:
  void put(std::uint64_t value, std::size_t width) {
    for (std::size_t i = 0; i < width; ++i) out_.u8(static_cast<std::uint8_t>(value >> (8 * i)));
  }
  kvferry::ByteWriter out_;
};

// An object with a member for every field; identifiers and coded bytes in hex, text as it is.
class JsonWriter {
 public:
  static constexpr bool kReads = false;
  using Json = nlohmann::ordered_json;

  const Json& json() const { return json_; }
  bool ok() const { return true; }
  template <typename What>
  void require(bool, const char*, const What&) {}
  template <typename T>
  void integer(const char* field, const T& value) {
    json_[field] = value;
  }
  void boolean(const char* field, const bool& value) { json_[field] = value; }
  template <typename E>
  void enumeration(const char* field, const E& value, E) {
    json_[field] = static_cast<std::underlying_type_t<E>>(value);
  }
  template <typename T>
  void real(const char* field, const T& value) {
    json_[field] = static_cast<double>(value);
  }
  template <std::size_t N>
  void identifier(const char* field, const std::array<std::uint8_t, N>& value) {
    json_[field] = hex(value);
  }
  void bytes(const char* field, const std::string& value, std::uint32_t) { json_[field] = value; }
  void utf8(const char* field, const std::string& value, std::uint32_t) { json_[field] = value; }
  void line(const char* field, const std::string& value, std::uint32_t) { json_[field] = value; }
  // Entries of one field are its values, those of several are objects.
  template <typename T, typename Each>
  void list(const char* field, std::vector<T>& entries, std::uint32_t, std::size_t, Each each) {
    Json outer = std::move(json_);
    Json values = Json::array();
    for (T& entry : entries) {
      json_ = Json::object();
      each(entry);
      values.push_back(json_.size() == 1 ? json_.front() : json_);
    }
    json_ = std::move(outer);
    json_[field] = std::move(values);
  }
  void rest(const char* field, const kvferry::Bytes& value) { json_[field] = hex(value); }

  static std::string hex(kvferry::Bytes bytes) {
    static const char* const kDigits = "0123456789abcdef";
    std::string text;
    for (const std::uint8_t b : bytes) {
      text += kDigits[b >> 4];
      text += kDigits[b & 15];
    }
    return text;
  }

 private:
  Json json_ = Json::object();
};

template <typename Message>
std::vector<std::uint8_t> unchecked_payload(Message message) {
  std::vector<std::uint8_t> payload;
  UncheckedWriter writer(payload);
  fields(writer, message);
  return payload;
}

template <typename Message>
nlohmann::ordered_json json_of(Message message) {
  JsonWriter writer;
  fields(writer, message);
  return writer.json();
}

}  // namespace kvferry_test
