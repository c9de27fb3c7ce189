// GgufFile: a GGUF container (versions 2 and 3, little-endian), parsed over mapped memory with
// every offset, length and count checked before use.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "kvferry/core/result.hpp"
#include "kvferry/core/span.hpp"
#include "kvferry/engine/mapped_file.hpp"

namespace kvferry {

// Types of metadata values; the numbers are GGUF's.
enum class GgufType : std::uint32_t {
  kUint8 = 0,
  kInt8 = 1,
  kUint16 = 2,
  kInt16 = 3,
  kUint32 = 4,
  kInt32 = 5,
  kFloat32 = 6,
  kBool = 7,
  kString = 8,
  kArray = 9,
  kUint64 = 10,
  kInt64 = 11,
  kFloat64 = 12,
};

// "uint8", "array", …
const char* name_of(GgufType type);

// One metadata entry. Key and payload lie in the file's memory.
struct GgufEntry {
  std::string_view key;
  GgufType type = GgufType::kUint8;     // kArray for an array
  GgufType element = GgufType::kUint8;  // the array's element type; equals `type` otherwise
  std::uint64_t count = 1;              // elements; 1 for a scalar
  std::uint64_t offset = 0;             // of the entry in the file, for messages
  Bytes payload;                        // the value(s), strings with their lengths
};

// One tensor. `type` is a number that find_ggml_type() knows; that this library can compute with it
// is not said.
struct GgufTensor {
  std::string_view name;
  std::uint32_t type = 0;
  std::uint32_t dimension_count = 0;                         // 1 to 4
  std::array<std::uint64_t, 4> dimensions = {{1, 1, 1, 1}};  // [0] is the contiguous one
  std::uint64_t offset = 0;                                  // of the tensor's entry in the file
  Bytes data;                                                // lies inside the file
};

// A GGML tensor type as far as a container needs to know it: `block_values` values take
// `block_bytes` bytes.
struct GgmlType {
  std::uint32_t number;
  const char* name;  // "Q4_K", "IQ2_XXS", …
  std::uint32_t block_values;
  std::uint32_t block_bytes;
};

// nullptr for a number that GGML does not define.
const GgmlType* find_ggml_type(std::uint32_t number);

// Moving a GgufFile leaves all views into it valid; destroying it ends them.
class GgufFile {
 public:
  // Maps the file. kIo, kMalformed (names byte offset and key or tensor), kUnsupported (version 1,
  // big-endian), kIncomplete (the file ends early), kResourceExhausted (more entries than any real
  // model has).
  static Result<GgufFile> open(const std::string& path);
  // Parses memory that outlives the GgufFile.
  static Result<GgufFile> parse(Bytes bytes);

  std::uint32_t version() const { return version_; }
  std::uint32_t alignment() const { return alignment_; }
  std::uint64_t size() const { return bytes_.size(); }
  // Where the tensor data begins; the file's size when there are no tensors.
  std::uint64_t data_offset() const { return data_offset_; }

  // In file order; keys and names are unique.
  const std::vector<GgufEntry>& metadata() const { return metadata_; }
  const std::vector<GgufTensor>& tensors() const { return tensors_; }
  // Byte offset in the file of a tensor's or entry's memory.
  std::uint64_t offset_of(Bytes part) const {
    return static_cast<std::uint64_t>(part.data() - bytes_.data());
  }
  // nullptr when there is none.
  const GgufEntry* find(std::string_view key) const;
  const GgufTensor* find_tensor(std::string_view name) const;

  // Typed access. kNotFound when there is no such key, kMalformed when its value is of another
  // kind or does not fit. Strings are views into the file's memory, bytes as they are there.
  Result<std::string_view> string(std::string_view key) const;
  // Any integer type whose value is not negative.
  Result<std::uint64_t> unsigned_integer(std::string_view key) const;
  // Any float or integer type.
  Result<double> number(std::string_view key) const;
  Result<bool> boolean(std::string_view key) const;
  // Arrays: of strings, of any integer type, of float32 or float64.
  Result<std::vector<std::string_view>> strings(std::string_view key) const;
  Result<std::vector<std::int64_t>> integers(std::string_view key) const;
  Result<std::vector<float>> floats(std::string_view key) const;

 private:
  GgufFile() = default;

  std::shared_ptr<const MappedFile> mapping_;  // none over a caller's memory
  Bytes bytes_;
  std::uint32_t version_ = 0;
  std::uint32_t alignment_ = 32;
  std::uint64_t data_offset_ = 0;
  std::vector<GgufEntry> metadata_;
  std::vector<GgufTensor> tensors_;
  std::vector<std::uint32_t> metadata_by_key_;  // indices, sorted by key
  std::vector<std::uint32_t> tensors_by_name_;  // indices, sorted by name
};

}  // namespace kvferry
