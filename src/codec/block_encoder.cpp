#include <algorithm>
#include <cstring>
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
#include "quantised_encoder.hpp"

namespace kvferry {

std::size_t maximum_encoded_size(const KvGeometry& geometry, std::uint32_t tokens) {
  // Every method takes at most the rows themselves and the table of byte planes: groups need a byte
  // a value and two a group, and a group has at least two values of at least two bytes; a quantised
  // block that would need more takes byte planes instead.
  return kBlockHeaderBytes + plane_table_bytes(geometry.type) + tokens * geometry.row_bytes();
}

struct BlockEncoder::Scratch {
  Scratch(const KvGeometry& g, std::shared_ptr<const Codebook> c, const PredictionOptions& p)
      : geometry(g), codebook(std::move(c)), rope(g.rope, g.head_dim) {
    if (p.predictor != nullptr) prediction.emplace(p.predictor, codebook, p.product, p.decoded);
  }

  Status check(const BlockSpec& spec, Bytes rows, MutableBytes out) const;
  bool encode_groups(const BlockSpec& spec, Bytes rows, MutableBytes out, BlockSize& size);
  bool encode_quantised(const BlockSpec& spec, Bytes rows, MutableBytes out, BlockHeader& header,
                        BlockSize& size);
  void remember(const BlockSpec& spec, Bytes block, std::size_t row_bytes);

  KvGeometry geometry;
  std::shared_ptr<const Codebook> codebook;
  RopeTable rope;
  PlaneEncoder planes;
  QuantisedEncoder quantised;
  std::optional<LayerPrediction> prediction;
  QuantisedDecoder own_blocks;  // decodes what a prediction is to be made from
  std::vector<float> values;
  std::vector<std::uint8_t> decoded_rows;
};

BlockEncoder::BlockEncoder(const KvGeometry& geometry, std::shared_ptr<const Codebook> codebook,
                           const PredictionOptions& prediction)
    : scratch_(new Scratch(geometry, std::move(codebook), prediction)) {}
BlockEncoder::~BlockEncoder() = default;
BlockEncoder::BlockEncoder(BlockEncoder&&) noexcept = default;
BlockEncoder& BlockEncoder::operator=(BlockEncoder&&) noexcept = default;

Status BlockEncoder::Scratch::check(const BlockSpec& spec, Bytes rows, MutableBytes out) const {
  KVFERRY_TRY(validate(geometry));
  KVFERRY_TRY(check_rows(geometry, spec.range, rows.size()));
  const auto refuse = [&spec](const std::string& what) {
    return Status(ErrorCode::kInvalidArgument, to_string(spec.range) + ": " + what);
  };
  const std::uint32_t tokens = spec.range.tokens();
  if (tokens > kMaxBlockTokens)
    return refuse("a codec block has at most " + std::to_string(kMaxBlockTokens) + " tokens");
  if (!is_available(spec.profile))
    return refuse("profile " + std::to_string(static_cast<int>(spec.profile)) + " does not exist");
  const std::size_t most = maximum_encoded_size(geometry, tokens);
  if (out.size() < most) {
    return refuse("the output has " + std::to_string(out.size()) + " bytes, encoding may need " +
                  std::to_string(most));
  }
  if (!is_quantised(spec.profile)) return Status();
  if (!spec.token_classes.empty() && spec.token_classes.size() != tokens)
    return refuse("classes of " + std::to_string(spec.token_classes.size()) + " tokens");
  for (const std::uint8_t c : spec.token_classes) {
    if (c > kMaxTokenClass) return refuse("a token of class " + std::to_string(c));
  }
  if (codebook != nullptr) KVFERRY_TRY(codebook->fits(geometry));
  if (prediction) KVFERRY_TRY(prediction->predictor().serves(geometry, codebook.get()));
  return Status();
}

// False when a value cannot be represented.
bool BlockEncoder::Scratch::encode_groups(const BlockSpec& spec, Bytes rows, MutableBytes out,
                                          BlockSize& size) {
  const KvRange& range = spec.range;
  values.resize(rows.size() / size_of(geometry.type));
  load_rows(geometry.type, rows, values);
  if (range.plane == Plane::kKey)
    rope.unrotate(values.data(), range.begin, range.tokens(), geometry.kv_heads);
  size.side = 2 * range.tokens() * groups_of_row(geometry.kv_heads, geometry.head_dim);
  const bool eight = spec.profile == Profile::kQ8;
  size.symbols = eight ? values.size() : values.size() / 2;
  const auto encode = eight ? encode_int8_groups : encode_int4_groups;
  return encode(values, geometry.head_dim, out.first(size.side),
                out.subspan(size.side, size.symbols));
}

// As encode_groups; `out` begins with the extension, which it writes and notes in the header.
bool BlockEncoder::Scratch::encode_quantised(const BlockSpec& spec, Bytes rows, MutableBytes out,
                                             BlockHeader& header, BlockSize& size) {
  const std::uint32_t tokens = spec.range.tokens();
  // Classes that are all 0 need not travel, and position 0 alone needs no codebook.
  const bool has_classes = std::any_of(spec.token_classes.begin(), spec.token_classes.end(),
                                       [](std::uint8_t c) { return c != 0; });
  const bool has_codebook = codebook != nullptr && spec.range.end > 1;
  const int layers_before = prediction && has_codebook ? prediction->find_inputs(spec.range) : -1;
  const bool is_predicted = layers_before >= 0;
  const std::size_t extension = extension_bytes(has_codebook, has_classes, is_predicted, tokens);
  if (extension > out.size()) return false;
  const CodebookPlane* plane =
      has_codebook ? &codebook->layers()[spec.range.layer].plane(spec.range.plane) : nullptr;
  if (is_predicted) prediction->predict(spec.range);
  if (!quantised.encode(geometry, spec, plane, is_predicted ? &*prediction : nullptr, rope, rows,
                        out.subspan(extension), size)) {
    return false;
  }

  header.extension_bytes = static_cast<std::uint16_t>(extension);
  std::uint8_t* at = out.data();
  if (has_codebook) {
    header.required_features |= static_cast<std::uint16_t>(BlockFeature::kCodebook);
    for (std::uint32_t b = 0; b < 8; ++b)
      *at++ = static_cast<std::uint8_t>(codebook->id() >> (8 * b));
  }
  if (has_classes) {
    header.required_features |= static_cast<std::uint16_t>(BlockFeature::kTokenClasses);
    std::fill_n(at, (tokens + 3) / 4, std::uint8_t{0});
    for (std::uint32_t t = 0; t < tokens; ++t)
      at[t / 4] = static_cast<std::uint8_t>(at[t / 4] | spec.token_classes[t] << (t % 4 * 2));
  }
  if (is_predicted) {
    header.required_features |= static_cast<std::uint16_t>(BlockFeature::kPrediction);
    header.predictor = prediction->predictor().id();
    header.layers_before = static_cast<std::uint8_t>(layers_before);
    if (has_classes) at += (tokens + 3) / 4;
    for (std::uint32_t b = 0; b < 8; ++b)
      *at++ = static_cast<std::uint8_t>(header.predictor >> (8 * b));
    *at = header.layers_before;
  }
  size.side += extension;
  return true;
}

// The block's rows, as the decoder will have them, for the layers behind.
void BlockEncoder::Scratch::remember(const BlockSpec& spec, Bytes block, std::size_t row_bytes) {
  const auto header = parse_block_header(block);
  if (!header.ok()) return;
  decoded_rows.resize(row_bytes);
  const Status decoded = own_blocks.decode(
      geometry, *header, &codebook->layers()[spec.range.layer].plane(spec.range.plane),
      &*prediction, spec.range, rope, block, decoded_rows);
  static_cast<void>(decoded);  // it is this encoder's own block
}

Result<BlockSize> BlockEncoder::encode(const BlockSpec& spec, Bytes rows, MutableBytes out) {
  KVFERRY_TRY(scratch_->check(spec, rows, out));
  const KvGeometry& g = scratch_->geometry;
  BlockHeader header;
  header.profile = spec.profile;
  header.type = g.type;
  header.plane = spec.range.plane;
  header.layer = static_cast<std::uint16_t>(spec.range.layer);
  header.begin = spec.range.begin;
  header.tokens = static_cast<std::uint16_t>(spec.range.tokens());

  // No method may take more than the caller knows of, however much room there is.
  const MutableBytes content =
      out.first(maximum_encoded_size(g, spec.range.tokens())).subspan(kBlockHeaderBytes);
  BlockSize size;
  if (spec.profile == Profile::kRaw) {
    header.method = BlockMethod::kStored;
    std::memcpy(content.data(), rows.data(), rows.size());
    size.symbols = rows.size();
  } else if (is_quantised(spec.profile) &&
             scratch_->encode_quantised(spec, rows, content, header, size)) {
    header.method = BlockMethod::kQuantised;
  } else if (spec.profile == Profile::kQ8 && scratch_->encode_groups(spec, rows, content, size)) {
    header.method = BlockMethod::kInt8Groups;
  } else if (spec.profile == Profile::kQ4H && scratch_->encode_groups(spec, rows, content, size)) {
    header.method = BlockMethod::kInt4Groups;
  } else {
    header.method = BlockMethod::kPlanes;
    size = scratch_->planes.encode(g.type, rows, content);
  }
  size.headers = kBlockHeaderBytes;
  write_block_header(header, out);
  if (scratch_->prediction) {
    if (header.method == BlockMethod::kQuantised) {
      scratch_->remember(spec, out.first(size.total()), rows.size());
    } else {
      scratch_->prediction->pass(spec.range);
    }
  }
  return size;
}

}  // namespace kvferry
