#include "kvferry/engine/gguf.hpp"

#include <algorithm>
#include <utility>

#include "kvferry/core/bytes.hpp"
#include "kvferry/core/quoted.hpp"

#include "gguf_parser.hpp"
#include "gguf_types.hpp"

namespace kvferry {
namespace {

bool is_integer(GgufType t) {
  return t <= GgufType::kInt32 || t == GgufType::kUint64 || t == GgufType::kInt64;
}
bool is_float(GgufType t) {
  return t == GgufType::kFloat32 || t == GgufType::kFloat64;
}

// An integer of type `t`, whose bits 0 to 63 are those of its two's complement.
std::uint64_t read_integer(ByteReader& r, GgufType t) {
  switch (t) {
    case GgufType::kUint8:
      return r.u8();
    case GgufType::kInt8:
      return static_cast<std::uint64_t>(std::int64_t{static_cast<std::int8_t>(r.u8())});
    case GgufType::kUint16:
      return r.u16();
    case GgufType::kInt16:
      return static_cast<std::uint64_t>(std::int64_t{static_cast<std::int16_t>(r.u16())});
    case GgufType::kUint32:
      return r.u32();
    case GgufType::kInt32:
      return static_cast<std::uint64_t>(std::int64_t{r.i32()});
    default:
      return r.u64();
  }
}
bool is_negative(std::uint64_t value, GgufType t) {
  return t != GgufType::kUint64 && (value >> 63) != 0;
}

Error wrong_kind(const GgufEntry& e, const std::string& wanted) {
  const std::string array = e.type == GgufType::kArray ? "array of " : "";
  return Error(ErrorCode::kMalformed, "key " + quoted(e.key) + " at byte " +
                                          std::to_string(e.offset) + " is of type " + array +
                                          name_of(e.element) + "; it must be " + wanted);
}

std::string_view read_text(ByteReader& r) {
  const Bytes b = r.raw(r.u64());
  return std::string_view(reinterpret_cast<const char*>(b.data()), b.size());
}

Error no_key(std::string_view key) {
  return Error(ErrorCode::kNotFound, "the file has no key " + quoted(key));
}

}  // namespace

Result<GgufFile> GgufFile::open(const std::string& path) {
  KVFERRY_ASSIGN(std::shared_ptr<const MappedFile> mapping, MappedFile::open(path));
  Result<GgufFile> file = parse(mapping->bytes());
  if (!file.ok()) return Error(file.error().code, quoted(path, 400) + ": " + file.error().message);
  file->mapping_ = std::move(mapping);
  return file;
}

Result<GgufFile> GgufFile::parse(Bytes bytes) {
  KVFERRY_ASSIGN(GgufContents contents, GgufParser(bytes).parse());
  GgufFile file;
  file.bytes_ = bytes;
  file.version_ = contents.version;
  file.alignment_ = contents.alignment;
  file.data_offset_ = contents.data_offset;
  file.metadata_ = std::move(contents.metadata);
  file.tensors_ = std::move(contents.tensors);
  file.metadata_by_key_ = std::move(contents.metadata_by_key);
  file.tensors_by_name_ = std::move(contents.tensors_by_name);
  return file;
}

const GgufEntry* GgufFile::find(std::string_view key) const {
  const auto it =
      std::lower_bound(metadata_by_key_.begin(), metadata_by_key_.end(), key,
                       [&](std::uint32_t i, std::string_view k) { return metadata_[i].key < k; });
  if (it == metadata_by_key_.end() || metadata_[*it].key != key) return nullptr;
  return &metadata_[*it];
}

const GgufTensor* GgufFile::find_tensor(std::string_view name) const {
  const auto it =
      std::lower_bound(tensors_by_name_.begin(), tensors_by_name_.end(), name,
                       [&](std::uint32_t i, std::string_view n) { return tensors_[i].name < n; });
  if (it == tensors_by_name_.end() || tensors_[*it].name != name) return nullptr;
  return &tensors_[*it];
}

Result<std::string_view> GgufFile::string(std::string_view key) const {
  const GgufEntry* const e = find(key);
  if (e == nullptr) return no_key(key);
  if (e->type != GgufType::kString) return wrong_kind(*e, "a string");
  ByteReader r(e->payload);
  return read_text(r);
}

Result<std::uint64_t> GgufFile::unsigned_integer(std::string_view key) const {
  const GgufEntry* const e = find(key);
  if (e == nullptr) return no_key(key);
  if (!is_integer(e->type)) return wrong_kind(*e, "an integer");
  ByteReader r(e->payload);
  const std::uint64_t value = read_integer(r, e->type);
  if (is_negative(value, e->type)) {
    return Error(ErrorCode::kMalformed, "key " + quoted(key) + " at byte " +
                                            std::to_string(e->offset) + " is " +
                                            std::to_string(static_cast<std::int64_t>(value)) +
                                            "; it must not be negative");
  }
  return value;
}

Result<double> GgufFile::number(std::string_view key) const {
  const GgufEntry* const e = find(key);
  if (e == nullptr) return no_key(key);
  ByteReader r(e->payload);
  if (e->type == GgufType::kFloat32) return static_cast<double>(r.f32());
  if (e->type == GgufType::kFloat64) return r.f64();
  if (!is_integer(e->type)) return wrong_kind(*e, "a number");
  const std::uint64_t value = read_integer(r, e->type);
  if (is_negative(value, e->type)) return static_cast<double>(static_cast<std::int64_t>(value));
  return static_cast<double>(value);
}

Result<bool> GgufFile::boolean(std::string_view key) const {
  const GgufEntry* const e = find(key);
  if (e == nullptr) return no_key(key);
  if (e->type != GgufType::kBool) return wrong_kind(*e, "a bool");
  return e->payload[0] != 0;
}

Result<std::vector<std::string_view>> GgufFile::strings(std::string_view key) const {
  const GgufEntry* const e = find(key);
  if (e == nullptr) return no_key(key);
  if (e->type != GgufType::kArray || e->element != GgufType::kString) {
    return wrong_kind(*e, "an array of strings");
  }
  std::vector<std::string_view> out;
  out.reserve(static_cast<std::size_t>(e->count));
  ByteReader r(e->payload);
  for (std::uint64_t i = 0; i < e->count; ++i) out.push_back(read_text(r));
  return out;
}

Result<std::vector<std::int64_t>> GgufFile::integers(std::string_view key) const {
  const GgufEntry* const e = find(key);
  if (e == nullptr) return no_key(key);
  if (e->type != GgufType::kArray || !is_integer(e->element)) {
    return wrong_kind(*e, "an array of integers");
  }
  std::vector<std::int64_t> out;
  out.reserve(static_cast<std::size_t>(e->count));
  ByteReader r(e->payload);
  for (std::uint64_t i = 0; i < e->count; ++i) {
    const std::uint64_t value = read_integer(r, e->element);
    if (e->element == GgufType::kUint64 && (value >> 63) != 0) {
      return Error(ErrorCode::kMalformed, "key " + quoted(key) + " at byte " +
                                              std::to_string(e->offset) + " has the value " +
                                              std::to_string(value) +
                                              ", which does not fit in 63 bits");
    }
    out.push_back(static_cast<std::int64_t>(value));
  }
  return out;
}

Result<std::vector<float>> GgufFile::floats(std::string_view key) const {
  const GgufEntry* const e = find(key);
  if (e == nullptr) return no_key(key);
  if (e->type != GgufType::kArray || !is_float(e->element)) {
    return wrong_kind(*e, "an array of floats");
  }
  std::vector<float> out;
  out.reserve(static_cast<std::size_t>(e->count));
  ByteReader r(e->payload);
  for (std::uint64_t i = 0; i < e->count; ++i) {
    out.push_back(e->element == GgufType::kFloat32 ? r.f32() : static_cast<float>(r.f64()));
  }
  return out;
}

}  // namespace kvferry
