// The bytes of an encoded block: a header, an extension, side information, symbols.
//
//   offset size  field
//        0    1  version, 1
//        1    1  profile (Profile)
//        2    1  method (BlockMethod)
//        3    1  type of the encoded rows (ElementType)
//        4    1  plane (Plane)
//        5    1  reserved, must be 0
//        6    2  layer
//        8    4  begin: absolute position of the first token
//       12    2  tokens, 1 to kMaxBlockTokens
//       14    2  required features: a decoder that does not know one refuses the block
//       16    2  optional features: a decoder ignores those that it does not know
//       18    2  extension bytes, 0 when neither kind of feature is set
//
// The extension holds the fields of the required features in the order of their bits, then those of
// the optional ones; a decoder that knows every required feature skips the rest. All fields are
// little-endian. What follows the extension depends on the method:
//
//   kStored  symbols: rows [tokens, kv_heads, head_dim] of the type.
//   kPlanes  side: u32 length of each byte plane, plane 0 (least significant bytes) first.
//            symbols: the planes. Plane p holds byte p of every value, in the order of the rows; it
//            is stored when its length is the number of values, else it is one zstd frame.
//   kInt8Groups  side: scales F16 [tokens, kv_heads, groups], where a group is kGroupValues
//            neighbours of head_dim (the last may be shorter). symbols: i8 [tokens, kv_heads,
//            head_dim]. A value is symbol * scale; K is rotated by RoPE to its position after that.
//   kInt4Groups  as kInt8Groups with 4 bits a value, of a Hadamard transform of the group.
//   kQuantised  side: step, flags, lengths, escapes. symbols: the row of position 0 as F16, raw
//            bits, entropy-coded streams. docs/wire-format.md has the details.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "kvferry/cache/geometry.hpp"
#include "kvferry/codec/profile.hpp"
#include "kvferry/core/result.hpp"
#include "kvferry/core/span.hpp"

namespace kvferry {

enum class BlockMethod : std::uint8_t {
  kStored = 0,
  kPlanes = 1,
  kInt8Groups = 2,
  kQuantised = 3,
  kInt4Groups = 4,
};

// Required features with an assigned bit and their fields in the extension. This version has the
// first two, of kQuantised alone, and refuses blocks that need another one by its name.
enum class BlockFeature : std::uint16_t {
  kCodebook = 1 << 0,      // u64 id of the codebook that the block was made with
  kTokenClasses = 1 << 1,  // two bits a token, the first token in the lowest bits; last byte padded
                           // with zeros
  kPrediction = 1 << 3,    // u8 count, then u16 each: layers whose decoded rows are needed
};

constexpr std::uint8_t kBlockVersion = 1;
constexpr std::size_t kBlockHeaderBytes = 20;
constexpr std::uint32_t kGroupValues = 32;  // of kInt8Groups and kInt4Groups

struct BlockHeader {
  Profile profile = Profile::kRaw;
  BlockMethod method = BlockMethod::kStored;
  ElementType type = ElementType::kF16;
  Plane plane = Plane::kKey;
  std::uint16_t layer = 0;
  std::uint32_t begin = 0;
  std::uint16_t tokens = 0;
  std::uint16_t required_features = 0;
  std::uint16_t optional_features = 0;
  std::uint16_t extension_bytes = 0;
  // Of the extension.
  std::uint64_t codebook = 0;  // 0: none
  Bytes token_classes;         // packed, a view of the block; empty: all tokens are of class 0

  bool needs(BlockFeature f) const {
    return (required_features & static_cast<std::uint16_t>(f)) != 0;
  }
  std::uint8_t class_of(std::size_t token) const {
    return token_classes.empty()
               ? std::uint8_t{0}
               : static_cast<std::uint8_t>(token_classes[token / 4] >> (token % 4 * 2) & 3);
  }
  // Where side information starts.
  std::size_t content_offset() const { return kBlockHeaderBytes + extension_bytes; }
};

// Reads and checks the header: kMalformed with the offset, or kUnsupported for a version, profile
// or required feature that this build does not have. The extension lies inside `block`.
Result<BlockHeader> parse_block_header(Bytes block);

// Bytes of the extension of a block with these features.
inline std::size_t extension_bytes(bool codebook, bool token_classes, std::uint32_t tokens) {
  return (codebook ? 8 : 0) + (token_classes ? (tokens + 3) / 4 : 0);
}

// Writes kBlockHeaderBytes to the front of `out`, the features and the extension's length as the
// header has them.
void write_block_header(const BlockHeader& header, MutableBytes out);

}  // namespace kvferry
