#include <algorithm>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "kvferry/codec/block.hpp"
#include "kvferry/codec/block_format.hpp"
#include "kvferry/codec/element_rows.hpp"
#include "kvferry/codec/rotation.hpp"

#include "byte_planes.hpp"
#include "int4_groups.hpp"
#include "int8_groups.hpp"
#include "layer_prediction.hpp"
#include "quantised_decoder.hpp"

namespace kvferry {
namespace {

constexpr float kLargestHalf = 65504.0f;

}  // namespace

struct BlockDecoder::Scratch {
  Scratch(const KvGeometry& g, std::shared_ptr<const Codebook> c, const PredictionOptions& p)
      : geometry(g), codebook(std::move(c)), rope(g.rope, g.head_dim) {
    if (p.predictor != nullptr) prediction.emplace(p.predictor, codebook, p.product, p.decoded);
  }

  Status check(const BlockHeader& header, const BlockTarget& target) const;
  Status decode_content(const BlockHeader& header, const KvRange& range, Bytes block,
                        MutableBytes rows);
  Status decode_stored(const BlockHeader& header, Bytes content, MutableBytes rows);
  Status decode_planes(const BlockHeader& header, Bytes content, MutableBytes rows);
  Status decode_groups(const BlockHeader& header, const KvRange& range, Bytes content,
                       MutableBytes rows);
  Status decode_quantised(const BlockHeader& header, const KvRange& range, Bytes block,
                          MutableBytes rows);

  KvGeometry geometry;
  std::shared_ptr<const Codebook> codebook;
  RopeTable rope;
  PlaneDecoder planes;
  QuantisedDecoder quantised;
  std::optional<LayerPrediction> prediction;
  std::vector<float> values;
  std::vector<std::uint8_t> source_rows;  // of the block's type, where it is not the geometry's
};

BlockDecoder::BlockDecoder(const KvGeometry& geometry, std::shared_ptr<const Codebook> codebook,
                           const PredictionOptions& prediction)
    : scratch_(new Scratch(geometry, std::move(codebook), prediction)) {}
BlockDecoder::~BlockDecoder() = default;
BlockDecoder::BlockDecoder(BlockDecoder&&) noexcept = default;
BlockDecoder& BlockDecoder::operator=(BlockDecoder&&) noexcept = default;

// That the block is the one that the caller asks for, and may go where it is to go.
Status BlockDecoder::Scratch::check(const BlockHeader& header, const BlockTarget& target) const {
  const auto differs = [&target](const std::string& what) {
    return Status(ErrorCode::kMismatch,
                  to_string(target.range) + ": the codec block is of " + what);
  };
  if (header.layer != target.range.layer) return differs("layer " + std::to_string(header.layer));
  if (header.plane != target.range.plane)
    return differs(std::string("plane ") + name_of(header.plane));
  if (header.tokens != target.range.tokens())
    return differs(std::to_string(header.tokens) + " tokens");
  if (target.position_offset != 0 &&
      (!is_lossy(header.profile) ||
       (header.method == BlockMethod::kPlanes && header.plane == Plane::kKey))) {
    return Error(
        ErrorCode::kUnsupported,
        to_string(target.range) + ": profile " + name_of(header.profile) +
            (is_lossy(header.profile) ? " fell back to lossless for this block, which" : "") +
            " ships K after RoPE and cannot be moved to other positions");
  }
  // An offset beyond these bounds matches no position, and the difference cannot overflow.
  const std::int64_t moved = static_cast<std::int64_t>(target.range.begin) - header.begin;
  if (moved != target.position_offset) {
    return differs("position " + std::to_string(header.begin) + ", an offset of " +
                   std::to_string(moved) + ", not " + std::to_string(target.position_offset));
  }
  return Status();
}

Status BlockDecoder::Scratch::decode_stored(const BlockHeader& header, Bytes content,
                                            MutableBytes rows) {
  const std::size_t expected = rows.size() / size_of(geometry.type) * size_of(header.type);
  if (content.size() != expected) {
    return Error(ErrorCode::kMalformed,
                 "codec block: byte " + std::to_string(header.content_offset()) + ": " +
                     std::to_string(content.size()) + " bytes of rows instead of " +
                     std::to_string(expected));
  }
  convert_rows(header.type, content, geometry.type, rows);
  return Status();
}

Status BlockDecoder::Scratch::decode_planes(const BlockHeader& header, Bytes content,
                                            MutableBytes rows) {
  if (header.type == geometry.type)
    return planes.decode(header.type, content, header.content_offset(), rows);
  source_rows.resize(rows.size() / size_of(geometry.type) * size_of(header.type));
  KVFERRY_TRY(planes.decode(header.type, content, header.content_offset(), source_rows));
  convert_rows(header.type, source_rows, geometry.type, rows);
  return Status();
}

Status BlockDecoder::Scratch::decode_groups(const BlockHeader& header, const KvRange& range,
                                            Bytes content, MutableBytes rows) {
  values.resize(rows.size() / size_of(geometry.type));
  const bool eight = header.method == BlockMethod::kInt8Groups;
  const std::size_t side = 2 * range.tokens() * groups_of_row(geometry.kv_heads, geometry.head_dim);
  const std::size_t symbols = eight ? values.size() : values.size() / 2;
  if (content.size() != side + symbols) {
    return Error(ErrorCode::kMalformed,
                 "codec block: byte " + std::to_string(header.content_offset()) + ": " +
                     std::to_string(content.size()) + " bytes of scales and symbols instead of " +
                     std::to_string(side + symbols));
  }
  const auto decode = eight ? decode_int8_groups : decode_int4_groups;
  if (!decode(content.first(side), content.subspan(side), geometry.head_dim, values)) {
    return Error(ErrorCode::kMalformed, "codec block: byte " +
                                            std::to_string(header.content_offset()) +
                                            ": a scale is negative or not finite");
  }
  if (range.plane == Plane::kKey)
    rope.rotate(values.data(), range.begin, range.tokens(), geometry.kv_heads);
  if (geometry.type == ElementType::kF16) {
    // A step past the largest F16 must not turn a finite value into an infinity.
    for (float& v : values) v = std::max(-kLargestHalf, std::min(kLargestHalf, v));
  }
  store_rows(geometry.type, values, rows);
  return Status();
}

Status BlockDecoder::Scratch::decode_quantised(const BlockHeader& header, const KvRange& range,
                                               Bytes block, MutableBytes rows) {
  const CodebookPlane* plane = nullptr;
  if (header.codebook != 0) {
    if (codebook == nullptr || codebook->id() != header.codebook) {
      return Error(ErrorCode::kUnsupported, to_string(range) +
                                                ": the codec block needs a codebook that is not " +
                                                "here; load the one that the sender has");
    }
    KVFERRY_TRY(codebook->fits(geometry));
    plane = &codebook->layers()[range.layer].plane(range.plane);
  }
  if (prediction) KVFERRY_TRY(prediction->predictor().serves(geometry, codebook.get()));
  if (header.predictor != 0) {
    if (!prediction || prediction->predictor().id() != header.predictor) {
      return Error(ErrorCode::kUnsupported, to_string(range) +
                                                ": the codec block needs a predictor that is not " +
                                                "here; load the one that the sender has");
    }
    const std::uint32_t layers_before = std::min(range.layer, prediction->predictor().depth());
    if (header.layers_before != layers_before) {
      return Error(ErrorCode::kMalformed,
                   to_string(range) + ": the codec block is predicted from " +
                       std::to_string(header.layers_before) +
                       " layers before it, the predictor uses " + std::to_string(layers_before));
    }
    // Moved blocks are held by where they go, all of a stream alike.
    if (prediction->find_inputs(range) < 0) {
      return Error(ErrorCode::kIncomplete,
                   to_string(range) + ": the codec block is predicted from the rows of these " +
                       "tokens in " + std::to_string(header.layers_before) +
                       " layers before it, which are not here; send it unpredicted");
    }
    prediction->predict(range);
  }
  return quantised.decode(geometry, header, plane, prediction ? &*prediction : nullptr, range, rope,
                          block, rows);
}

Status BlockDecoder::Scratch::decode_content(const BlockHeader& header, const KvRange& range,
                                             Bytes block, MutableBytes rows) {
  const Bytes content = block.subspan(header.content_offset());
  switch (header.method) {
    case BlockMethod::kStored:
      return decode_stored(header, content, rows);
    case BlockMethod::kPlanes:
      return decode_planes(header, content, rows);
    case BlockMethod::kQuantised:
      return decode_quantised(header, range, block, rows);
    case BlockMethod::kInt8Groups:
    case BlockMethod::kInt4Groups:
      return decode_groups(header, range, content, rows);
  }
  return Error(ErrorCode::kInternal, "codec block: a method that passed its check is unknown");
}

Status BlockDecoder::decode(const BlockTarget& target, Bytes block, MutableBytes rows) {
  KVFERRY_TRY(validate(scratch_->geometry));
  KVFERRY_TRY(check_rows(scratch_->geometry, target.range, rows.size()));
  KVFERRY_ASSIGN(const BlockHeader header, parse_block_header(block));
  KVFERRY_TRY(scratch_->check(header, target));
  KVFERRY_TRY(scratch_->decode_content(header, target.range, block, rows));
  if (scratch_->prediction && header.method != BlockMethod::kQuantised)
    scratch_->prediction->pass(target.range);
  return Status();
}

}  // namespace kvferry
