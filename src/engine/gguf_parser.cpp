#include "gguf_parser.hpp"

#include <algorithm>
#include <limits>

#include "kvferry/core/quoted.hpp"

#include "gguf_types.hpp"

namespace kvferry {
namespace {

// Real models have fewer than 200 entries and fewer than 20,000 tensors.
constexpr std::uint64_t kMaxEntries = 16384;
constexpr std::uint64_t kMaxTensors = 65536;
constexpr std::uint64_t kMaxKeyBytes = 65535;  // GGUF's own limit
constexpr std::uint64_t kMaxNameBytes = 255;   // GGUF's own limit is 64
constexpr std::uint64_t kMinEntryBytes = 13;   // key length, value type, one byte
constexpr std::uint64_t kMinTensorBytes = 32;  // name length, one dimension, type, offset
constexpr std::uint64_t kNoCap = std::numeric_limits<std::uint64_t>::max();

std::string at(std::uint64_t offset) {
  return " at byte " + std::to_string(offset);
}

Error malformed(std::string message) {
  return Error(ErrorCode::kMalformed, std::move(message));
}

Status check_count(const char* what, std::uint64_t count, std::uint64_t min_bytes,
                   std::uint64_t cap, std::uint64_t remaining) {
  const std::string claim = "the header claims " + std::to_string(count) + " " + what;
  if (count > remaining / min_bytes) {
    return Error(ErrorCode::kIncomplete, claim + ", but the file has only " +
                                             std::to_string(remaining) +
                                             " more bytes: it is truncated or corrupt");
  }
  if (count > cap) {
    return Error(ErrorCode::kResourceExhausted,
                 claim + ", more than the supported " + std::to_string(cap));
  }
  return Status();
}

// Indices of `items` in the order of `text(item)`. Error text when two are equal.
template <typename Item, typename Text>
Status sort_unique(const std::vector<Item>& items, Text text, const char* what,
                   std::vector<std::uint32_t>& order) {
  order.resize(items.size());
  for (std::size_t i = 0; i < order.size(); ++i) order[i] = static_cast<std::uint32_t>(i);
  std::sort(order.begin(), order.end(),
            [&](std::uint32_t a, std::uint32_t b) { return text(items[a]) < text(items[b]); });
  for (std::size_t i = 1; i < order.size(); ++i) {
    const Item& a = items[order[i - 1]];
    const Item& b = items[order[i]];
    if (text(a) == text(b)) {
      return malformed(std::string(what) + " " + quoted(text(a)) + " occurs twice," +
                       at(std::min(a.offset, b.offset)) + " and" +
                       at(std::max(a.offset, b.offset)));
    }
  }
  return Status();
}

}  // namespace

Error GgufParser::ends_inside(const std::string& what) const {
  return Error(ErrorCode::kIncomplete, "the file ends after " + std::to_string(bytes_.size()) +
                                           " bytes, inside " + what + ": it is truncated");
}

Result<GgufContents> GgufParser::parse() {
  std::uint64_t tensors = 0;
  std::uint64_t entries = 0;
  KVFERRY_TRY(read_header(tensors, entries));
  out_.metadata.reserve(static_cast<std::size_t>(entries));
  for (std::uint64_t i = 0; i < entries; ++i) KVFERRY_TRY(read_entry(i));
  KVFERRY_TRY(sort_unique(
      out_.metadata, [](const GgufEntry& e) { return e.key; }, "metadata key",
      out_.metadata_by_key));
  KVFERRY_TRY(read_alignment());
  KVFERRY_TRY(check_count("tensors", tensors, kMinTensorBytes, kMaxTensors, reader_.remaining()));
  out_.tensors.reserve(static_cast<std::size_t>(tensors));
  extents_.reserve(static_cast<std::size_t>(tensors));
  for (std::uint64_t i = 0; i < tensors; ++i) KVFERRY_TRY(read_tensor(i));
  KVFERRY_TRY(sort_unique(
      out_.tensors, [](const GgufTensor& t) { return t.name; }, "tensor", out_.tensors_by_name));
  KVFERRY_TRY(place_tensors());
  return std::move(out_);
}

Status GgufParser::read_header(std::uint64_t& tensors, std::uint64_t& entries) {
  const Bytes magic = reader_.raw(4);
  if (!reader_.ok()) return ends_inside("the 4-byte magic");
  if (!std::equal(magic.begin(), magic.end(), "GGUF")) {
    return malformed("not a GGUF file: it begins with " +
                     quoted(std::string_view(reinterpret_cast<const char*>(magic.data()), 4)) +
                     " instead of \"GGUF\"");
  }
  out_.version = reader_.u32();
  if (!reader_.ok()) return ends_inside("the version");
  if (out_.version != 0 && (out_.version & 0xffffu) == 0) {
    return Error(ErrorCode::kUnsupported,
                 "this GGUF file is big-endian (version field at byte 4); convert it to "
                 "little-endian");
  }
  if (out_.version != 2 && out_.version != 3) {
    return Error(ErrorCode::kUnsupported, "GGUF version " + std::to_string(out_.version) +
                                              " at byte 4; versions 2 and 3 are supported, "
                                              "convert the model again");
  }
  tensors = reader_.u64();
  if (!reader_.ok()) return ends_inside("the tensor count");
  entries = reader_.u64();
  if (!reader_.ok()) return ends_inside("the metadata count");
  KVFERRY_TRY(check_count("tensors", tensors, kMinTensorBytes, kMaxTensors, reader_.remaining()));
  return check_count("metadata entries", entries, kMinEntryBytes, kMaxEntries, reader_.remaining());
}

Result<std::string_view> GgufParser::read_string(const std::string& what, std::uint64_t cap) {
  const std::uint64_t offset = reader_.offset();
  const std::uint64_t length = reader_.u64();
  if (!reader_.ok()) return ends_inside("the length of " + what);
  if (length > cap) {
    return malformed(what + at(offset) + " has " + std::to_string(length) +
                     " bytes, more than the allowed " + std::to_string(cap));
  }
  const std::size_t remaining = reader_.remaining();
  const Bytes text = reader_.raw(length);
  if (!reader_.ok()) {
    return Error(ErrorCode::kIncomplete, what + at(offset) + " claims " + std::to_string(length) +
                                             " bytes, but the file has only " +
                                             std::to_string(remaining) +
                                             " more: it is truncated or corrupt");
  }
  return std::string_view(reinterpret_cast<const char*>(text.data()), text.size());
}

Status GgufParser::check_bools(const std::string& what, Bytes values, std::uint64_t offset) const {
  for (std::size_t i = 0; i < values.size(); ++i) {
    if (values[i] > 1) {
      return malformed(what + at(offset + i) + " has the bool " + std::to_string(values[i]) +
                       "; 0 and 1 are allowed");
    }
  }
  return Status();
}

Status GgufParser::read_entry(std::uint64_t index) {
  GgufEntry entry;
  entry.offset = reader_.offset();
  const std::string number = "metadata entry " + std::to_string(index);
  KVFERRY_ASSIGN(entry.key, read_string("the key of " + number, kMaxKeyBytes));
  if (entry.key.empty()) return malformed(number + at(entry.offset) + " has an empty key");
  const std::string what = "key " + quoted(entry.key);

  const std::uint64_t type_offset = reader_.offset();
  const std::uint32_t type = reader_.u32();
  if (!reader_.ok()) return ends_inside("the value type of " + what);
  if (type >= kGgufTypes) {
    return malformed(what + at(type_offset) + " has the unknown value type " +
                     std::to_string(type));
  }
  entry.type = static_cast<GgufType>(type);
  entry.element = entry.type;

  const std::uint64_t value_offset = reader_.offset();
  if (entry.type == GgufType::kArray) {
    KVFERRY_ASSIGN(entry.payload, read_array(what, entry));
  } else if (entry.type == GgufType::kString) {
    KVFERRY_TRY(read_string("the value of " + what, kNoCap));
    const auto begin = static_cast<std::size_t>(value_offset);
    entry.payload = bytes_.subspan(begin, reader_.offset() - begin);
  } else {
    entry.payload = reader_.raw(bytes_of(entry.type));
    if (!reader_.ok()) return ends_inside("the value of " + what);
    if (entry.type == GgufType::kBool) {
      KVFERRY_TRY(check_bools(what, entry.payload, value_offset));
    }
  }
  out_.metadata.push_back(entry);
  return Status();
}

Result<Bytes> GgufParser::read_array(const std::string& what, GgufEntry& entry) {
  const std::uint64_t offset = reader_.offset();
  const std::uint32_t element = reader_.u32();
  entry.count = reader_.u64();
  if (!reader_.ok()) return ends_inside("the array of " + what);
  if (element >= kGgufTypes) {
    return malformed(what + at(offset) + " is an array of the unknown type " +
                     std::to_string(element));
  }
  entry.element = static_cast<GgufType>(element);
  if (entry.element == GgufType::kArray) {
    return Error(ErrorCode::kUnsupported, what + at(offset) + " is an array of arrays");
  }
  const bool strings = entry.element == GgufType::kString;
  const std::uint64_t least = strings ? 8 : bytes_of(entry.element);
  if (entry.count > reader_.remaining() / least) {
    return Error(ErrorCode::kIncomplete,
                 what + at(offset) + " claims an array of " + std::to_string(entry.count) +
                     " values, but the file has only " + std::to_string(reader_.remaining()) +
                     " more bytes: it is truncated or corrupt");
  }
  const std::size_t begin = reader_.offset();
  if (strings) {
    for (std::uint64_t i = 0; i < entry.count; ++i) {
      // The message names the element only when it is needed: vocabularies are long.
      const std::uint64_t length = reader_.u64();
      reader_.raw(length);
      if (!reader_.ok()) return ends_inside("string " + std::to_string(i) + " of " + what);
    }
  } else {
    reader_.raw(entry.count * least);
  }
  const Bytes payload = bytes_.subspan(begin, reader_.offset() - begin);
  if (entry.element == GgufType::kBool) KVFERRY_TRY(check_bools(what, payload, begin));
  return payload;
}

Status GgufParser::read_alignment() {
  for (const GgufEntry& entry : out_.metadata) {
    if (entry.key != "general.alignment") continue;
    const std::string what = "key \"general.alignment\"" + at(entry.offset);
    if (entry.type != GgufType::kUint32) {
      return malformed(what + " is of type " + name_of(entry.type) + "; it must be uint32");
    }
    out_.alignment = ByteReader(entry.payload).u32();
    if (out_.alignment == 0 || (out_.alignment & (out_.alignment - 1)) != 0) {
      return malformed(what + " is " + std::to_string(out_.alignment) +
                       "; it must be a power of two");
    }
  }
  return Status();
}

Status GgufParser::read_tensor(std::uint64_t index) {
  GgufTensor tensor;
  tensor.offset = reader_.offset();
  const std::string number = "tensor " + std::to_string(index);
  KVFERRY_ASSIGN(tensor.name, read_string("the name of " + number, kMaxNameBytes));
  if (tensor.name.empty()) return malformed(number + at(tensor.offset) + " has an empty name");
  const std::string what = "tensor " + quoted(tensor.name);
  const std::string where = what + at(tensor.offset);

  tensor.dimension_count = reader_.u32();
  if (!reader_.ok()) return ends_inside("the dimension count of " + what);
  if (tensor.dimension_count < 1 || tensor.dimension_count > tensor.dimensions.size()) {
    return malformed(where + " has " + std::to_string(tensor.dimension_count) +
                     " dimensions; 1 to 4 are allowed");
  }
  std::uint64_t values = 1;
  for (std::uint32_t d = 0; d < tensor.dimension_count; ++d) {
    const std::uint64_t size = reader_.u64();
    if (!reader_.ok()) return ends_inside("the dimensions of " + what);
    if (size == 0) return malformed(where + " has a dimension of 0");
    if (size > std::numeric_limits<std::int64_t>::max() / values) {
      return malformed(where + " has dimensions whose product does not fit in 63 bits");
    }
    values *= size;
    tensor.dimensions[d] = size;
  }
  tensor.type = reader_.u32();
  if (!reader_.ok()) return ends_inside("the type of " + what);
  const GgmlType* const type = find_ggml_type(tensor.type);
  if (type == nullptr) {
    return Error(ErrorCode::kUnsupported,
                 where + " has the unknown tensor type " + std::to_string(tensor.type));
  }
  if (tensor.dimensions[0] % type->block_values != 0) {
    return malformed(where + " has rows of " + std::to_string(tensor.dimensions[0]) +
                     " values; its type " + type->name + " needs a multiple of " +
                     std::to_string(type->block_values));
  }
  const std::uint64_t blocks = values / type->block_values;
  if (blocks > std::numeric_limits<std::uint64_t>::max() / type->block_bytes) {
    return malformed(where + " has a size in bytes that does not fit in 64 bits");
  }
  const std::uint64_t begin = reader_.u64();
  if (!reader_.ok()) return ends_inside("the data offset of " + what);
  if (begin % out_.alignment != 0) {
    return malformed(where + " has the data offset " + std::to_string(begin) +
                     ", which is not a multiple of the alignment " +
                     std::to_string(out_.alignment));
  }
  extents_.push_back(Extent{begin, blocks * type->block_bytes});
  out_.tensors.push_back(tensor);
  return Status();
}

Status GgufParser::place_tensors() {
  const std::uint64_t size = bytes_.size();
  if (out_.tensors.empty()) {
    out_.data_offset = size;
    return Status();
  }
  const std::uint64_t mask = out_.alignment - 1;
  out_.data_offset = (reader_.offset() + mask) & ~mask;
  if (out_.data_offset > size) return ends_inside("the padding before the tensor data");
  const std::uint64_t available = size - out_.data_offset;
  for (std::size_t i = 0; i < out_.tensors.size(); ++i) {
    GgufTensor& tensor = out_.tensors[i];
    const Extent& e = extents_[i];
    if (e.begin > available || e.bytes > available - e.begin) {
      return Error(ErrorCode::kIncomplete,
                   "tensor " + quoted(tensor.name) + at(tensor.offset) + " needs " +
                       std::to_string(e.bytes) + " bytes from offset " + std::to_string(e.begin) +
                       " of the data section, which has only " + std::to_string(available) +
                       " bytes: the file is truncated or corrupt");
    }
    tensor.data = bytes_.subspan(static_cast<std::size_t>(out_.data_offset + e.begin),
                                 static_cast<std::size_t>(e.bytes));
  }
  std::vector<std::uint32_t> order(out_.tensors.size());
  for (std::size_t i = 0; i < order.size(); ++i) order[i] = static_cast<std::uint32_t>(i);
  std::sort(order.begin(), order.end(), [&](std::uint32_t a, std::uint32_t b) {
    return extents_[a].begin < extents_[b].begin;
  });
  for (std::size_t i = 1; i < order.size(); ++i) {
    const std::uint32_t a = order[i - 1];
    const std::uint32_t b = order[i];
    if (extents_[b].begin - extents_[a].begin < extents_[a].bytes) {
      return malformed("the data of tensor " + quoted(out_.tensors[a].name) + " and tensor " +
                       quoted(out_.tensors[b].name) + at(out_.tensors[b].offset) + " overlap");
    }
  }
  return Status();
}

}  // namespace kvferry
