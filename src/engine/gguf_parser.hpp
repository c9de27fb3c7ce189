#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "kvferry/core/bytes.hpp"
#include "kvferry/core/result.hpp"
#include "kvferry/engine/gguf.hpp"

namespace kvferry {

// What a GGUF file consists of. Views point into the parsed bytes.
struct GgufContents {
  std::uint32_t version = 0;
  std::uint32_t alignment = 32;
  std::uint64_t data_offset = 0;
  std::vector<GgufEntry> metadata;
  std::vector<GgufTensor> tensors;
  std::vector<std::uint32_t> metadata_by_key;
  std::vector<std::uint32_t> tensors_by_name;
};

// Reads a whole GGUF file front to back. Memory that it takes is bounded by a small multiple of the
// file's header, whatever counts and lengths the header claims.
class GgufParser {
 public:
  explicit GgufParser(Bytes bytes) : bytes_(bytes), reader_(bytes) {}

  Result<GgufContents> parse();

 private:
  Status read_header(std::uint64_t& tensors, std::uint64_t& entries);
  Status read_entry(std::uint64_t index);
  Result<Bytes> read_array(const std::string& what, GgufEntry& entry);
  Status read_alignment();
  Status read_tensor(std::uint64_t index);
  Status place_tensors();
  // A u64 length and as many bytes; `what` names the string in messages.
  Result<std::string_view> read_string(const std::string& what, std::uint64_t cap);
  Status check_bools(const std::string& what, Bytes values, std::uint64_t offset) const;
  Error ends_inside(const std::string& what) const;

  Bytes bytes_;
  ByteReader reader_;
  GgufContents out_;
  // Of each tensor: where its data begins, from data_offset, and how many bytes it takes.
  struct Extent {
    std::uint64_t begin;
    std::uint64_t bytes;
  };
  std::vector<Extent> extents_;
};

}  // namespace kvferry
