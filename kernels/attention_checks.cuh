// What the launchers of attention check alike.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "kernels/attention.cuh"
#include "kernels/launch_status.cuh"

namespace kvferry {
namespace kernels {

// Above what any model has; below what would overflow the grids and the sizes computed from them.
constexpr std::uint32_t kMaxAttentionValues = 65536;     // heads * head_dim
constexpr std::uint32_t kMaxAttentionTokens = 1u << 20;  // of a sequence
constexpr std::uint32_t kMaxAttentionSequences = 65535;

inline LaunchStatus unsupported_launch(const std::string& message) {
  return Error(ErrorCode::kUnsupported, message);
}

inline LaunchStatus check_heads(const std::string& what, std::uint32_t heads,
                                std::uint32_t head_dim) {
  if (heads == 0 || head_dim == 0 || heads > kMaxAttentionValues / head_dim) {
    return invalid_launch(what + ": " + std::to_string(heads) + " heads of " +
                          std::to_string(head_dim) + " values are not within 1.." +
                          std::to_string(kMaxAttentionValues) + " values");
  }
  return LaunchStatus();
}

inline LaunchStatus check_shape(const std::string& what, const AttentionShape& shape) {
  if (shape.head_dim != 64 && shape.head_dim != 128) {
    return unsupported_launch(what + ": heads of " + std::to_string(shape.head_dim) +
                              " values; kernels are there for 64 and 128");
  }
  const LaunchStatus heads = check_heads(what, shape.heads, shape.head_dim);
  if (!heads.ok()) return heads;
  if (shape.kv_heads == 0 || shape.heads % shape.kv_heads != 0) {
    return invalid_launch(what + ": " + std::to_string(shape.heads) + " query heads cannot share " +
                          std::to_string(shape.kv_heads) + " kv heads evenly");
  }
  if (!(shape.scale > 0.0f && shape.scale <= 65536.0f)) {
    return invalid_launch(what + ": the scale of the scores is " + std::to_string(shape.scale) +
                          ", which is not within (0, 65536]");
  }
  if (shape.key_offset % 16 != 0 || shape.value_offset % 16 != 0) {
    return invalid_launch(what + ": the layer lies at bytes " + std::to_string(shape.key_offset) +
                          " and " + std::to_string(shape.value_offset) +
                          " of a block, which have to be multiples of 16");
  }
  return LaunchStatus();
}

inline LaunchStatus check_chunk(const std::string& what, std::uint32_t begin, std::uint32_t rows) {
  if (rows == 0 || begin > kMaxAttentionTokens || rows > kMaxAttentionTokens - begin) {
    return invalid_launch(what + ": " + std::to_string(rows) + " rows from position " +
                          std::to_string(begin) + " on are not within 1.." +
                          std::to_string(kMaxAttentionTokens) + " tokens");
  }
  return LaunchStatus();
}

inline LaunchStatus check_sequences(const std::string& what, std::uint32_t sequences) {
  if (sequences == 0 || sequences > kMaxAttentionSequences) {
    return invalid_launch(what + ": " + std::to_string(sequences) +
                          " sequences are not within 1.." + std::to_string(kMaxAttentionSequences));
  }
  return LaunchStatus();
}

inline LaunchStatus check_pointer(const std::string& what, const char* name, const void* pointer,
                                  std::size_t alignment) {
  if (!is_aligned(pointer, alignment)) {
    return invalid_launch(what + ": " + name + " is null or not aligned to " +
                          std::to_string(alignment) + " bytes");
  }
  return LaunchStatus();
}

}  // namespace kernels
}  // namespace kvferry
