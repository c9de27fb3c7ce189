// Decodes arbitrary bytes as a codec block. The first three bytes choose the receiver's element
// type, the plane and the position offset; the rest is the block. A block that names a codebook is
// given one. What decodes must be of the size asked for, decode the same a second time, and,
// encoded losslessly, come back bit by bit within the bound that was stated beforehand; every other
// profile must take it, and quantised blocks must be encoded the same twice.
//
// A first byte of 255 makes the rest a predictor, 254 a codebook, 240 to 242 a block that may be
// predicted from others, of that element type.
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <vector>

#include "kvferry/codec/block.hpp"
#include "kvferry/codec/block_format.hpp"
#include "kvferry/codec/element_rows.hpp"
#include "kvferry/codec/predictor.hpp"
#include "kvferry/core/hash.hpp"

using namespace kvferry;

namespace {

void require(bool holds) {
  if (!holds) std::abort();
}

KvGeometry geometry_of_type(ElementType type) {
  KvGeometry g;
  g.layers = 2;
  g.kv_heads = 2;
  g.head_dim = 40;  // a whole group and a short one
  g.type = type;
  g.rope.layout = RopeLayout::kSplitHalves;
  g.rope.inverse_frequency = {1.0f, 0.25f, 0.01f};
  return g;
}

// The codebook of every block that needs one.
std::shared_ptr<const Codebook> codebook() {
  static const std::shared_ptr<const Codebook> made = [] {
    const KvGeometry g = geometry_of_type(ElementType::kF16);
    std::vector<CodebookLayer> layers(g.layers);
    for (CodebookLayer& layer : layers) {
      for (const Plane p : {Plane::kKey, Plane::kValue}) {
        CodebookPlane& plane = layer.plane(p);
        plane.step = -8;
        for (std::size_t c = 0; c < g.row_values(); ++c) {
          plane.weights.push_back(static_cast<std::int8_t>(c % 9) - 4);
          plane.means.push_back(BFloat16{static_cast<std::uint16_t>(0x3f00 + c)});
          plane.spreads.push_back(static_cast<std::int8_t>(c % 5) - 3);
        }
      }
    }
    return Codebook::create(1, g.kv_heads, g.head_dim, layers).value();
  }();
  return made;
}

// The bytes with the id of that codebook, where they ask for one.
std::vector<std::uint8_t> with_codebook(Bytes bytes) {
  std::vector<std::uint8_t> block(bytes.begin(), bytes.end());
  if (block.size() >= kBlockHeaderBytes + 8 && (block[14] & 1) != 0) {
    for (std::uint32_t b = 0; b < 8; ++b)
      block[kBlockHeaderBytes + b] = static_cast<std::uint8_t>(codebook()->id() >> (8 * b));
  }
  return block;
}

// The predictor of every block that needs one: depth 1, a sparse map, the identity for a basis.
std::shared_ptr<const Predictor> predictor() {
  static const std::shared_ptr<const Predictor> made = [] {
    const KvGeometry g = geometry_of_type(ElementType::kF16);
    const std::size_t width = g.row_values();
    std::vector<PredictorLayer> layers(g.layers);
    for (std::uint32_t l = 0; l < g.layers; ++l) {
      for (const Plane p : {Plane::kKey, Plane::kValue}) {
        const std::size_t inputs = 2 * std::size_t{l} + (p == Plane::kValue ? 1 : 0);
        if (inputs == 0) continue;
        PredictorPlane& plane = layers[l].plane(p);
        plane.map.assign((inputs * width + 1) * width, Half{0});
        for (std::size_t i = 0; i < plane.map.size(); i += 7)
          plane.map[i] = to_half(static_cast<float>(i % 5) * 0.25f - 0.5f);
        plane.basis.assign(width * width, Half{0});
        for (std::size_t c = 0; c < width; ++c) plane.basis[c * width + c] = to_half(1.0f);
        plane.spreads.assign(width, 1);
      }
    }
    return Predictor::create(1, codebook()->id(), g.kv_heads, g.head_dim, 1, std::move(layers))
        .value();
  }();
  return made;
}

std::vector<std::uint8_t> encoded(BlockEncoder& encoder, const KvGeometry& g, Profile profile,
                                  const KvRange& range, const std::vector<std::uint8_t>& rows) {
  const std::size_t most = maximum_encoded_size(g, range.tokens());
  std::vector<std::uint8_t> out(most);
  BlockSpec spec;
  spec.profile = profile;
  spec.range = range;
  const Result<BlockSize> size = encoder.encode(spec, rows, out);
  require(size.ok() && size->total() <= most);
  out.resize(size->total());
  return out;
}

// Any bytes as a codebook or a predictor, with a hash that fits them: what parses is serialised to
// the same bytes.
template <typename T>
void check_model_data(Bytes content) {
  std::vector<std::uint8_t> bytes(content.begin(), content.end());
  if (bytes.size() >= 8) {
    const std::uint64_t hash = hash64(Bytes(bytes).first(bytes.size() - 8));
    for (std::uint32_t b = 0; b < 8; ++b)
      bytes[bytes.size() - 8 + b] = static_cast<std::uint8_t>(hash >> (8 * b));
  }
  const auto parsed = T::parse(bytes);
  if (!parsed.ok()) {
    require(!parsed.error().message.empty());
    return;
  }
  const std::vector<std::uint8_t>& again = (*parsed)->bytes();
  require(again.size() == bytes.size() && std::equal(again.begin(), again.end(), bytes.begin()));
  require((*parsed)->id() != 0);
}

// The bytes with the ids of codebook and predictor, where they ask for them.
std::vector<std::uint8_t> with_predictor(Bytes bytes) {
  std::vector<std::uint8_t> block = with_codebook(bytes);
  const auto header = parse_block_header(block);
  if (!header.ok() || header->predictor == 0) return block;
  const std::size_t at = kBlockHeaderBytes + extension_bytes(true, !header->token_classes.empty(),
                                                             false, header->tokens);
  for (std::uint32_t b = 0; b < 8; ++b)
    block[at + b] = static_cast<std::uint8_t>(predictor()->id() >> (8 * b));
  return block;
}

// A decoder that has the blocks of `tokens` before that of `target`.
BlockDecoder decoder_before(const KvGeometry& g, const KvRange& target) {
  BlockDecoder decoder(g, codebook(), {predictor(), ordered_product});
  BlockEncoder encoder(g, codebook());
  std::vector<std::uint8_t> rows(target.tokens() * g.row_bytes());
  std::vector<float> values(target.tokens() * g.row_values());
  for (std::size_t i = 0; i < values.size(); ++i)
    values[i] = static_cast<float>(i * 37 % 101) * 0.05f - 2.5f;
  store_rows(g.type, values, rows);
  for (std::uint32_t layer = 0; layer <= target.layer; ++layer) {
    for (const Plane plane : {Plane::kKey, Plane::kValue}) {
      if (layer == target.layer && plane >= target.plane) continue;
      const KvRange range{layer, plane, target.begin, target.end};
      const auto block = encoded(encoder, g, Profile::kMedium, range, rows);
      std::vector<std::uint8_t> out(rows.size());
      require(decoder.decode({range, 0}, block, out).ok());
    }
  }
  return decoder;
}

// Any bytes as a block behind others that it may be predicted from: what decodes is finite and
// decodes the same in another decoder.
void check_predicted(ElementType type, Bytes bytes) {
  const KvGeometry g = geometry_of_type(type);
  const std::vector<std::uint8_t> block = with_predictor(bytes);
  const Result<BlockHeader> header = parse_block_header(block);
  if (!header.ok() || header->layer >= g.layers || header->begin > 0xfffffeffu) return;
  const KvRange range{header->layer, header->plane, header->begin, header->begin + header->tokens};
  std::vector<std::uint8_t> rows(range.tokens() * g.row_bytes());
  const Status status = decoder_before(g, range).decode({range, 0}, block, rows);
  if (!status.ok()) {
    require(!status.error().message.empty());
    return;
  }
  std::vector<std::uint8_t> again(rows.size());
  require(decoder_before(g, range).decode({range, 0}, block, again).ok() && again == rows);
  if (header->predictor == 0) return;
  std::vector<float> values(range.tokens() * g.row_values());
  load_rows(g.type, rows, values);
  for (const float v : values) require(std::isfinite(v));
}

constexpr std::uint8_t kPredictorInput = 0xff;
constexpr std::uint8_t kCodebookInput = 0xfe;
constexpr std::uint8_t kPredictedInput = 0xf0;  // + element type

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size < 3) return 0;
  if (data[0] == kPredictorInput) {
    check_model_data<Predictor>(Bytes(data + 1, size - 1));
    return 0;
  }
  if (data[0] == kCodebookInput) {
    check_model_data<Codebook>(Bytes(data + 1, size - 1));
    return 0;
  }
  if (data[0] >= kPredictedInput && data[0] < kPredictedInput + 3) {
    check_predicted(static_cast<ElementType>(data[0] - kPredictedInput), Bytes(data + 1, size - 1));
    return 0;
  }
  const KvGeometry g = geometry_of_type(static_cast<ElementType>(data[0] % 3));
  const std::vector<std::uint8_t> block = with_codebook(Bytes(data + 3, size - 3));
  BlockTarget target;
  target.range.plane = static_cast<Plane>(data[1] % 2);
  target.position_offset = static_cast<std::int8_t>(data[2]);

  // Coordinates that the block itself claims, so that its content is reached.
  const Result<BlockHeader> header = parse_block_header(block);
  if (!header.ok()) {
    require(!header.error().message.empty());
    return 0;
  }
  target.range.layer = header->layer % 2;
  const std::int64_t begin = header->begin + target.position_offset;
  if (begin < 0 || begin > 0xfffffeffLL) return 0;
  target.range.begin = static_cast<std::uint32_t>(begin);
  target.range.end = target.range.begin + header->tokens;

  static BlockDecoder decoders[] = {BlockDecoder(geometry_of_type(ElementType::kF16), codebook()),
                                    BlockDecoder(geometry_of_type(ElementType::kBF16), codebook()),
                                    BlockDecoder(geometry_of_type(ElementType::kF32), codebook())};
  BlockDecoder& decoder = decoders[data[0] % 3];
  std::vector<std::uint8_t> rows(header->tokens * g.row_bytes());
  const Status status = decoder.decode(target, block, rows);
  if (!status.ok()) {
    require(!status.error().message.empty());
    return 0;
  }
  std::vector<std::uint8_t> again(rows.size());
  require(BlockDecoder(g, codebook()).decode(target, block, again).ok() && again == rows);

  BlockEncoder encoder(g, data[1] < 128 ? codebook() : nullptr);
  target.position_offset = 0;
  for (const Profile profile : {Profile::kRaw, Profile::kLossless}) {
    const auto bytes = encoded(encoder, g, profile, target.range, rows);
    require(decoder.decode(target, bytes, again).ok() && again == rows);
    require(bytes == encoded(encoder, g, profile, target.range, rows));
  }
  for (const Profile profile : {Profile::kHigh, Profile::kMedium, Profile::kLow, Profile::kLowest,
                                Profile::kQ8, Profile::kQ4H}) {
    const auto bytes = encoded(encoder, g, profile, target.range, rows);
    require(decoder.decode(target, bytes, again).ok());
    require(bytes == encoded(encoder, g, profile, target.range, rows));
  }
  return 0;
}
