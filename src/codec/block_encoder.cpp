#include <cstring>
#include <string>
#include <utility>
#include <vector>

#include "kvferry/codec/block.hpp"
#include "kvferry/codec/block_format.hpp"
#include "kvferry/codec/element_rows.hpp"
#include "kvferry/codec/rotation.hpp"

#include "byte_planes.hpp"
#include "int8_groups.hpp"

namespace kvferry {

std::size_t maximum_encoded_size(const KvGeometry& geometry, std::uint32_t tokens) {
  // Every method takes at most the rows themselves and the table of byte planes: 8-bit groups need
  // a byte a value and two a group, and a group has at least two values of at least two bytes.
  return kBlockHeaderBytes + plane_table_bytes(geometry.type) + tokens * geometry.row_bytes();
}

struct BlockEncoder::Scratch {
  Scratch(const KvGeometry& g, std::shared_ptr<const Codebook> c)
      : geometry(g), codebook(std::move(c)), rope(g.rope, g.head_dim) {}

  bool encode_groups(const KvRange& range, Bytes rows, MutableBytes out, BlockSize& size);

  KvGeometry geometry;
  std::shared_ptr<const Codebook> codebook;
  RopeTable rope;
  PlaneEncoder planes;
  std::vector<float> values;
};

BlockEncoder::BlockEncoder(const KvGeometry& geometry, std::shared_ptr<const Codebook> codebook)
    : scratch_(new Scratch(geometry, std::move(codebook))) {}
BlockEncoder::~BlockEncoder() = default;
BlockEncoder::BlockEncoder(BlockEncoder&&) noexcept = default;
BlockEncoder& BlockEncoder::operator=(BlockEncoder&&) noexcept = default;

// False when a value cannot be represented.
bool BlockEncoder::Scratch::encode_groups(const KvRange& range, Bytes rows, MutableBytes out,
                                          BlockSize& size) {
  values.resize(rows.size() / size_of(geometry.type));
  load_rows(geometry.type, rows, values);
  if (range.plane == Plane::kKey)
    rope.unrotate(values.data(), range.begin, range.tokens(), geometry.kv_heads);
  size.side = 2 * range.tokens() * groups_of_row(geometry.kv_heads, geometry.head_dim);
  size.symbols = values.size();
  return encode_int8_groups(values, geometry.head_dim, out.first(size.side),
                            out.subspan(size.side, size.symbols));
}

Result<BlockSize> BlockEncoder::encode(const BlockSpec& spec, Bytes rows, MutableBytes out) {
  const KvGeometry& g = scratch_->geometry;
  KVFERRY_TRY(validate(g));
  KVFERRY_TRY(check_rows(g, spec.range, rows.size()));
  if (spec.range.tokens() > kMaxBlockTokens) {
    return Error(ErrorCode::kInvalidArgument, to_string(spec.range) +
                                                  ": a codec block has at most " +
                                                  std::to_string(kMaxBlockTokens) + " tokens");
  }
  if (!is_available(spec.profile)) {
    return Error(ErrorCode::kUnsupported,
                 std::string("codec: profile ") + name_of(spec.profile) + " is not in this build");
  }
  const std::size_t most = maximum_encoded_size(g, spec.range.tokens());
  if (out.size() < most) {
    return Error(ErrorCode::kInvalidArgument,
                 to_string(spec.range) + ": the output has " + std::to_string(out.size()) +
                     " bytes, encoding may need " + std::to_string(most));
  }

  BlockHeader header;
  header.profile = spec.profile;
  header.type = g.type;
  header.plane = spec.range.plane;
  header.layer = static_cast<std::uint16_t>(spec.range.layer);
  header.begin = spec.range.begin;
  header.tokens = static_cast<std::uint16_t>(spec.range.tokens());

  const MutableBytes content = out.subspan(kBlockHeaderBytes);
  BlockSize size;
  if (spec.profile == Profile::kRaw) {
    header.method = BlockMethod::kStored;
    std::memcpy(content.data(), rows.data(), rows.size());
    size.symbols = rows.size();
  } else if (is_lossy(spec.profile) && scratch_->encode_groups(spec.range, rows, content, size)) {
    header.method = BlockMethod::kInt8Groups;
  } else {
    header.method = BlockMethod::kPlanes;
    size = scratch_->planes.encode(g.type, rows, content);
  }
  size.headers = kBlockHeaderBytes;
  write_block_header(header, out);
  return size;
}

}  // namespace kvferry
