// BlockEncoder and BlockDecoder: rows of one (layer, plane, tokens) to bytes and back.
//
// Each block is decodable alone. The same rows and parameters give the same bytes on every
// instruction set and from every thread; the bytes of `lossless` also depend on the zstd release.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

#include "kvferry/cache/geometry.hpp"
#include "kvferry/codec/codebook.hpp"
#include "kvferry/codec/decoded_rows.hpp"
#include "kvferry/codec/predictor.hpp"
#include "kvferry/codec/profile.hpp"
#include "kvferry/core/result.hpp"
#include "kvferry/core/span.hpp"

namespace kvferry {

// Most tokens of a block; it starts anywhere and need not match the cache's blocks.
constexpr std::uint32_t kMaxBlockTokens = 256;
constexpr std::uint8_t kMaxTokenClass = 2;

// What to encode.
struct BlockSpec {
  Profile profile = Profile::kLossless;
  KvRange range;  // absolute positions, 1 to kMaxBlockTokens tokens
  // For `high` to `lowest`: the class of each token, 0 to kMaxTokenClass, or empty. A token of
  // class n has its steps divided by 2^n.
  Span<const std::uint8_t> token_classes = {};
};

// Where to decode to. The range is the destination's; a block that was encoded at positions [a, b)
// goes to range.begin = a + position_offset. `raw` and `lossless` refuse an offset (kUnsupported):
// their K is stored after RoPE.
struct BlockTarget {
  KvRange range;
  std::int64_t position_offset = 0;
};

// Bytes of an encoded block by kind.
struct BlockSize {
  std::size_t headers = 0;  // the block's header
  std::size_t side = 0;     // scales and lengths
  std::size_t symbols = 0;  // the values themselves
  std::size_t total() const { return headers + side + symbols; }
};

// The most bytes that a block of `tokens` tokens of this geometry takes in any profile, so that
// buffers are sized before anything is encoded or received. `tokens` is at most kMaxBlockTokens.
std::size_t maximum_encoded_size(const KvGeometry& geometry, std::uint32_t tokens);

// Prediction across layers, for `high` to `lowest`: the maps, made for the coder's codebook, and
// where their products are computed. A coder that has it keeps the decoded rows of the layers
// before. A block is decoded after the blocks that it is predicted from. Encoders take the blocks
// of one range of tokens one after the other, in the order of the layers, K before V; where what a
// block would be predicted from is missing, it is coded by itself.
struct PredictionOptions {
  std::shared_ptr<const Predictor> predictor;  // null: none
  MatrixProduct product = ordered_product;
  // Shared by the coders that work on one stream; null: the coder's own, of a bounded size.
  std::shared_ptr<DecodedRows> decoded = nullptr;
};

// Encodes rows of one geometry. Keeps scratch memory of a bounded size between blocks (about 12
// bytes a value of the largest block, a RoPE table and a zstd context); one encoder serves one
// thread at a time.
class BlockEncoder {
 public:
  // Without a codebook the blocks of `high` to `lowest` scale themselves.
  explicit BlockEncoder(const KvGeometry& geometry,
                        std::shared_ptr<const Codebook> codebook = nullptr,
                        const PredictionOptions& prediction = {});
  ~BlockEncoder();
  BlockEncoder(BlockEncoder&&) noexcept;
  BlockEncoder& operator=(BlockEncoder&&) noexcept;

  // Rows [tokens, kv_heads, head_dim] of the geometry's type, little-endian, to the front of `out`,
  // which has at least maximum_encoded_size() bytes. Any values are accepted: where a lossy profile
  // cannot represent a block (infinities, NaN, magnitudes beyond its scales), the block is coded
  // losslessly and says so. kInvalidArgument for a bad range or size, kUnsupported for a profile
  // that this build does not have.
  Result<BlockSize> encode(const BlockSpec& spec, Bytes rows, MutableBytes out);

 private:
  struct Scratch;
  std::unique_ptr<Scratch> scratch_;
};

// Decodes blocks into rows of one geometry, which may have another element type than the encoder's:
// `raw` and `lossless` give the encoder's bits when the types are equal, and round to nearest
// (ties to even; NaN is quieted, what is too large becomes an infinity) when they differ. Lossy
// profiles decode finite values to finite values. Keeps bounded scratch memory, as the encoder.
class BlockDecoder {
 public:
  // Blocks that were made with a codebook need that one here; blocks without one always decode.
  explicit BlockDecoder(const KvGeometry& geometry,
                        std::shared_ptr<const Codebook> codebook = nullptr,
                        const PredictionOptions& prediction = {});
  ~BlockDecoder();
  BlockDecoder(BlockDecoder&&) noexcept;
  BlockDecoder& operator=(BlockDecoder&&) noexcept;

  // `block` may be any bytes. `rows` has target.range.tokens() * row_bytes() bytes; when decoding
  // fails its content is indeterminate and must not be used. kMalformed with the byte offset,
  // kUnsupported for a version, profile or required feature that this build does not have,
  // kMismatch for a block of other coordinates, kInvalidArgument for a bad target.
  Status decode(const BlockTarget& target, Bytes block, MutableBytes rows);

 private:
  struct Scratch;
  std::unique_ptr<Scratch> scratch_;
};

}  // namespace kvferry
