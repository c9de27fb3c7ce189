// BlockTranscoder: a block of any profile becomes one of a fixed rate, which a decode kernel can
// read where it lies.
#pragma once

#include <memory>
#include <vector>

#include "kvferry/codec/block.hpp"

namespace kvferry {

// Of blocks of one geometry. Keeps the scratch memory of a decoder and an encoder; one transcoder
// serves one thread at a time.
class BlockTranscoder {
 public:
  // As BlockDecoder.
  explicit BlockTranscoder(const KvGeometry& geometry,
                           std::shared_ptr<const Codebook> codebook = nullptr,
                           const PredictionOptions& prediction = {});

  // Writes a block of target.range to the front of `out`, which has at least
  // maximum_encoded_size() bytes of a geometry of F32. `profile` is kQ8 or kQ4H, else
  // kInvalidArgument. Values go through F32. A block that is of the profile already keeps its
  // symbols and scales, at any position: its K is stored before RoPE. Otherwise as
  // BlockDecoder::decode() and BlockEncoder::encode().
  Result<BlockSize> transcode(const BlockTarget& target, Profile profile, Bytes block,
                              MutableBytes out);

 private:
  KvGeometry geometry_;  // of type F32
  BlockDecoder decoder_;
  BlockEncoder encoder_;
  std::vector<std::uint8_t> rows_;
};

}  // namespace kvferry
