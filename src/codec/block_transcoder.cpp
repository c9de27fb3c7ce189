#include <cstring>
#include <string>
#include <utility>

#include "kvferry/codec/block_format.hpp"
#include "kvferry/codec/transcoder.hpp"

namespace kvferry {
namespace {

KvGeometry of_floats(KvGeometry geometry) {
  geometry.type = ElementType::kF32;
  return geometry;
}

}  // namespace

BlockTranscoder::BlockTranscoder(const KvGeometry& geometry,
                                 std::shared_ptr<const Codebook> codebook,
                                 const PredictionOptions& prediction)
    : geometry_(of_floats(geometry)),
      decoder_(geometry_, std::move(codebook), prediction),
      encoder_(geometry_) {}

Result<BlockSize> BlockTranscoder::transcode(const BlockTarget& target, Profile profile,
                                             Bytes block, MutableBytes out) {
  if (profile != Profile::kQ8 && profile != Profile::kQ4H) {
    return Error(ErrorCode::kInvalidArgument, std::string("profile ") + name_of(profile) +
                                                  " is not of a fixed rate; use q8 or q4h");
  }
  if (target.range.end <= target.range.begin || target.range.tokens() > kMaxBlockTokens) {
    return Error(ErrorCode::kInvalidArgument, to_string(target.range) +
                                                  ": a codec block has 1 to " +
                                                  std::to_string(kMaxBlockTokens) + " tokens");
  }
  rows_.resize(target.range.tokens() * geometry_.row_bytes());
  KVFERRY_TRY(decoder_.decode(target, block, rows_));
  BlockSpec spec;
  spec.profile = profile;
  spec.range = target.range;
  KVFERRY_ASSIGN(const BlockSize size, encoder_.encode(spec, rows_, out));
  KVFERRY_ASSIGN(const BlockHeader from, parse_block_header(block));
  KVFERRY_ASSIGN(const BlockHeader to, parse_block_header(Bytes(out).first(size.total())));
  // Coding what was decoded could change a scale's last bit.
  if (from.method == to.method && from.profile == profile && to.method != BlockMethod::kPlanes) {
    std::memcpy(out.data() + kBlockHeaderBytes, block.data() + from.content_offset(),
                size.total() - kBlockHeaderBytes);
  }
  return size;
}

}  // namespace kvferry
