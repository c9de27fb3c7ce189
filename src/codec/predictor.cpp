#include "kvferry/codec/predictor.hpp"

#include <algorithm>
#include <cstring>
#include <utility>

#include "kvferry/core/bytes.hpp"
#include "kvferry/core/hash.hpp"

#include "row_kernels.hpp"

namespace kvferry {
namespace {

constexpr std::uint8_t kMagic[4] = {'K', 'V', 'F', 'P'};
constexpr std::uint8_t kVersion = 1;
constexpr std::size_t kHeaderBytes = 40;
constexpr std::size_t kHashBytes = 8;

// Planes that a plane of `layer` is predicted from.
std::size_t input_planes(std::size_t layer, Plane plane, std::size_t depth) {
  return 2 * std::min(layer, depth) + (plane == Plane::kValue ? 1 : 0);
}

std::size_t map_values(std::size_t inputs, std::size_t channels) {
  return inputs == 0 ? 0 : (inputs * channels + 1) * channels;
}

Status check_plane(const PredictorPlane& p, std::size_t inputs, std::size_t channels,
                   const std::string& where) {
  const auto refuse = [&where](const std::string& what) {
    return Status(ErrorCode::kInvalidArgument, "predictor: " + where + ": " + what);
  };
  const auto is_number = [](Half h) { return (h.bits & 0x7c00) != 0x7c00; };
  const std::size_t basis = inputs == 0 ? 0 : channels * channels;
  if (p.map.size() != map_values(inputs, channels) || p.basis.size() != basis ||
      p.spreads.size() != (inputs == 0 ? 0 : channels)) {
    return refuse("a map of " + std::to_string(p.map.size()) + ", a basis of " +
                  std::to_string(p.basis.size()) + " and " + std::to_string(p.spreads.size()) +
                  " spreads instead of " + std::to_string(map_values(inputs, channels)) + ", " +
                  std::to_string(basis) + " and " + std::to_string(inputs == 0 ? 0 : channels));
  }
  if (!std::all_of(p.map.begin(), p.map.end(), is_number)) return refuse("the map is not finite");
  if (!std::all_of(p.basis.begin(), p.basis.end(), is_number))
    return refuse("the basis is not finite");
  return Status();
}

Status check_shape(std::uint64_t layers, std::uint64_t kv_heads, std::uint64_t head_dim,
                   std::uint64_t depth) {
  if (layers != 0 && layers <= kMaxLayers && kv_heads != 0 && kv_heads <= kMaxRowValues &&
      head_dim != 0 && head_dim <= kMaxRowValues && kv_heads * head_dim <= kMaxRowValues &&
      depth != 0 && depth <= Predictor::kMaxDepth) {
    return Status();
  }
  return Error(ErrorCode::kInvalidArgument, "predictor: depth " + std::to_string(depth) + " over " +
                                                std::to_string(layers) + " layers of " +
                                                std::to_string(kv_heads) + " heads of " +
                                                std::to_string(head_dim) + " is no shape of one");
}

// Bytes of all planes; `layers` times a row is below 2^28, a plane's map below 2^36.
std::uint64_t content_bytes(std::size_t layers, std::size_t channels, std::size_t depth) {
  std::uint64_t bytes = 0;
  for (std::size_t l = 0; l < layers; ++l) {
    for (const Plane p : {Plane::kKey, Plane::kValue}) {
      const std::size_t inputs = input_planes(l, p, depth);
      if (inputs == 0) continue;
      bytes += 2 * (map_values(inputs, channels) + channels * channels) + channels;
    }
  }
  return bytes;
}

void write_plane(const PredictorPlane& p, ByteWriter& out) {
  for (const Half h : p.map) out.u16(h.bits);
  for (const Half h : p.basis) out.u16(h.bits);
  for (const std::int8_t s : p.spreads) out.u8(static_cast<std::uint8_t>(s));
}

PredictorPlane read_plane(std::size_t inputs, std::size_t channels, ByteReader& in) {
  PredictorPlane p;
  if (inputs == 0) return p;
  p.map.resize(map_values(inputs, channels));
  p.basis.resize(channels * channels);
  p.spreads.resize(channels);
  for (Half& h : p.map) h.bits = in.u16();
  for (Half& h : p.basis) h.bits = in.u16();
  for (std::int8_t& s : p.spreads) s = static_cast<std::int8_t>(in.u8());
  return p;
}

}  // namespace

void ordered_product(const ProductShape& shape, const float* x, const float* m, float* out) {
  row_kernels().multiply(shape, x, m, out);
}

std::vector<KvPlane> Predictor::inputs(std::uint32_t layer, Plane plane) const {
  std::vector<KvPlane> planes;
  for (std::uint32_t l = layer - std::min(layer, depth_); l < layer; ++l) {
    planes.push_back({l, Plane::kKey});
    planes.push_back({l, Plane::kValue});
  }
  if (plane == Plane::kValue) planes.push_back({layer, Plane::kKey});
  return planes;
}

std::uint64_t Predictor::bytes_for(std::uint32_t layers, std::uint64_t channels,
                                   std::uint32_t depth) {
  return kHeaderBytes + content_bytes(layers, channels, depth) + kHashBytes;
}

Result<std::shared_ptr<const Predictor>> Predictor::create(
    std::uint64_t model, std::uint64_t codebook, std::uint32_t kv_heads, std::uint32_t head_dim,
    std::uint32_t depth, std::vector<PredictorLayer> layers) {
  KVFERRY_TRY(check_shape(layers.size(), kv_heads, head_dim, depth));
  const std::size_t channels = std::size_t{kv_heads} * head_dim;
  for (std::size_t l = 0; l < layers.size(); ++l) {
    for (const Plane p : {Plane::kKey, Plane::kValue}) {
      KVFERRY_TRY(check_plane(layers[l].plane(p), input_planes(l, p, depth), channels,
                              "layer " + std::to_string(l) + " " + name_of(p)));
    }
  }
  const std::uint64_t content = content_bytes(layers.size(), channels, depth);
  if (content > kMaxBytes) {
    return Error(ErrorCode::kInvalidArgument,
                 "predictor: " + std::to_string(content) + " bytes are more than " +
                     std::to_string(kMaxBytes) + "; use fewer layers before");
  }
  std::shared_ptr<Predictor> made(new Predictor);
  made->model_ = model;
  made->codebook_ = codebook;
  made->kv_heads_ = kv_heads;
  made->head_dim_ = head_dim;
  made->depth_ = depth;
  made->layers_ = std::move(layers);
  made->bytes_.reserve(kHeaderBytes + static_cast<std::size_t>(content) + kHashBytes);
  ByteWriter out(made->bytes_);
  out.raw(Bytes(kMagic));
  out.u8(kVersion);
  for (int i = 0; i < 3; ++i) out.u8(0);
  out.u64(model);
  out.u64(codebook);
  out.u32(static_cast<std::uint32_t>(made->layers_.size()));
  out.u32(kv_heads);
  out.u32(head_dim);
  out.u32(depth);
  for (const PredictorLayer& layer : made->layers_) {
    write_plane(layer.key, out);
    write_plane(layer.value, out);
  }
  const std::uint64_t hash = hash64(made->bytes_);
  out.u64(hash);
  made->id_ = hash == 0 ? 1 : hash;  // 0 means none
  return std::shared_ptr<const Predictor>(std::move(made));
}

Result<std::shared_ptr<const Predictor>> Predictor::parse(Bytes bytes) {
  const auto malformed = [](std::size_t offset, const std::string& what) {
    return Error(ErrorCode::kMalformed, "predictor: byte " + std::to_string(offset) + ": " + what);
  };
  ByteReader in(bytes);
  const Bytes magic = in.raw(sizeof kMagic);
  const std::uint8_t version = in.u8();
  std::uint32_t reserved = 0;
  for (int i = 0; i < 3; ++i) reserved |= in.u8();
  const std::uint64_t model = in.u64();
  const std::uint64_t codebook = in.u64();
  const std::uint32_t layers = in.u32();
  const std::uint32_t kv_heads = in.u32();
  const std::uint32_t head_dim = in.u32();
  const std::uint32_t depth = in.u32();
  if (!in.ok()) return malformed(bytes.size(), "ends inside the header");
  if (std::memcmp(magic.data(), kMagic, sizeof kMagic) != 0)
    return malformed(0, "is not a predictor");
  if (version != kVersion) {
    return Error(ErrorCode::kUnsupported, "predictor: version " + std::to_string(version) +
                                              ", this build reads version " +
                                              std::to_string(kVersion));
  }
  if (reserved != 0) return malformed(5, "reserved bytes are not 0");
  const Status shape = check_shape(layers, kv_heads, head_dim, depth);
  if (!shape.ok()) return Error(ErrorCode::kMalformed, shape.error().message);
  const std::size_t channels = std::size_t{kv_heads} * head_dim;
  const std::uint64_t content = content_bytes(layers, channels, depth);
  if (in.remaining() != content + kHashBytes) {
    return malformed(in.offset(), std::to_string(in.remaining()) + " bytes follow instead of " +
                                      std::to_string(content + kHashBytes));
  }
  std::vector<PredictorLayer> read(layers);
  for (std::size_t l = 0; l < read.size(); ++l) {
    read[l].key = read_plane(input_planes(l, Plane::kKey, depth), channels, in);
    read[l].value = read_plane(input_planes(l, Plane::kValue, depth), channels, in);
  }
  if (in.u64() != hash64(bytes.first(bytes.size() - kHashBytes)))
    return Error(ErrorCode::kChecksum, "predictor: the content does not match its hash");
  auto made = create(model, codebook, kv_heads, head_dim, depth, std::move(read));
  if (!made.ok()) return Error(ErrorCode::kMalformed, made.error().message);
  return made;
}

Status Predictor::serves(const KvGeometry& geometry, const Codebook* codebook) const {
  if (codebook == nullptr || codebook->id() != codebook_) {
    return Error(ErrorCode::kMismatch,
                 "the predictor was made with another codebook than the one that is here");
  }
  if (geometry.first_layer <= layers_.size() &&
      geometry.layers <= layers_.size() - geometry.first_layer && geometry.kv_heads == kv_heads_ &&
      geometry.head_dim == head_dim_) {
    return Status();
  }
  return Error(ErrorCode::kMismatch, "the predictor is of " + std::to_string(layers_.size()) +
                                         " layers, " + std::to_string(kv_heads_) + " heads of " +
                                         std::to_string(head_dim_) + "; the cache has layers " +
                                         std::to_string(geometry.first_layer) + " to " +
                                         std::to_string(geometry.first_layer + geometry.layers) +
                                         ", " + std::to_string(geometry.kv_heads) + " heads of " +
                                         std::to_string(geometry.head_dim));
}

}  // namespace kvferry
