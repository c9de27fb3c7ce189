#include "kvferry/codec/codebook.hpp"

#include <cmath>
#include <utility>

#include "kvferry/core/bytes.hpp"
#include "kvferry/core/hash.hpp"

namespace kvferry {
namespace {

constexpr std::uint8_t kMagic[4] = {'K', 'V', 'F', 'C'};
constexpr std::uint8_t kVersion = 1;
constexpr std::size_t kHeaderBytes = 32;
constexpr std::size_t kHashBytes = 8;
// Blocks add corrections of up to 2^56 to a mean; the sum has to stay finite.
constexpr float kMaxMean = 18446744073709551616.0f;  // 2^64

// 2^(i / 8)
constexpr float kMantissas[8] = {0x1.000000p+0f, 0x1.172b84p+0f, 0x1.306fe0p+0f, 0x1.4bfdaep+0f,
                                 0x1.6a09e6p+0f, 0x1.8ace54p+0f, 0x1.ae89fap+0f, 0x1.d5818ep+0f};
// 2^((2 i + 1) / 16): where the nearest of them changes.
constexpr float kBetween[8] = {0x1.0b5586p+0f, 0x1.2387a6p+0f, 0x1.3dea64p+0f, 0x1.5ab07ep+0f,
                               0x1.7a1148p+0f, 0x1.9c4918p+0f, 0x1.c199bep+0f, 0x1.ea4afap+0f};

// Bytes of a plane of `channels` channels: step, weights, means, spreads.
std::size_t plane_bytes(std::size_t channels) {
  return 2 + 4 * channels;
}

Status check_plane(const CodebookPlane& p, std::size_t channels, const std::string& where) {
  const auto refuse = [&where](const std::string& what) {
    return Status(ErrorCode::kInvalidArgument, "codebook: " + where + ": " + what);
  };
  if (p.step < -Codebook::kMaxStep || p.step > Codebook::kMaxStep)
    return refuse("the step is 2^(" + std::to_string(p.step) + "/8)");
  if (p.weights.size() != channels || p.means.size() != channels || p.spreads.size() != channels) {
    return refuse("weights, means and spreads of " + std::to_string(p.weights.size()) + ", " +
                  std::to_string(p.means.size()) + " and " + std::to_string(p.spreads.size()) +
                  " channels instead of " + std::to_string(channels));
  }
  for (std::size_t c = 0; c < channels; ++c) {
    const float mean = to_float(p.means[c]);
    if (!(mean <= kMaxMean && mean >= -kMaxMean))
      return refuse("the mean of channel " + std::to_string(c) + " is " + std::to_string(mean));
  }
  return Status();
}

void write_plane(const CodebookPlane& p, ByteWriter& out) {
  out.u16(static_cast<std::uint16_t>(p.step));
  for (const std::int8_t w : p.weights) out.u8(static_cast<std::uint8_t>(w));
  for (const BFloat16 m : p.means) out.u16(m.bits);
  for (const std::int8_t s : p.spreads) out.u8(static_cast<std::uint8_t>(s));
}

CodebookPlane read_plane(std::size_t channels, ByteReader& in) {
  CodebookPlane p;
  p.step = static_cast<std::int16_t>(in.u16());
  for (std::size_t c = 0; c < channels; ++c) p.weights.push_back(static_cast<std::int8_t>(in.u8()));
  for (std::size_t c = 0; c < channels; ++c) p.means.push_back(BFloat16{in.u16()});
  for (std::size_t c = 0; c < channels; ++c) p.spreads.push_back(static_cast<std::int8_t>(in.u8()));
  return p;
}

Status check_shape(std::uint64_t layers, std::uint64_t kv_heads, std::uint64_t head_dim) {
  if (layers != 0 && layers <= kMaxLayers && kv_heads != 0 && kv_heads <= kMaxRowValues &&
      head_dim != 0 && head_dim <= kMaxRowValues && kv_heads * head_dim <= kMaxRowValues) {
    return Status();
  }
  return Error(ErrorCode::kInvalidArgument,
               "codebook: " + std::to_string(layers) + " layers, " + std::to_string(kv_heads) +
                   " heads of " + std::to_string(head_dim) + " are no shape of a cache");
}

}  // namespace

float exp2_eighths(std::int32_t n) {
  n = n < -kMaxEighths ? -kMaxEighths : n > kMaxEighths ? kMaxEighths : n;
  const std::int32_t octave = n >= 0 ? n / 8 : -((7 - n) / 8);
  const float power = float_from_bits(static_cast<std::uint32_t>(octave + 127) << 23);
  return kMantissas[n - 8 * octave] * power;
}

std::int32_t log2_eighths(float x) {
  const std::uint32_t bits = float_bits(x);
  const auto octave = static_cast<std::int32_t>(bits >> 23) - 127;
  const float mantissa = float_from_bits((bits & 0x7fffffu) | 0x3f800000u);
  std::int32_t n = 8 * octave;
  for (const float b : kBetween) n += mantissa >= b ? 1 : 0;
  return n < -kMaxEighths ? -kMaxEighths : n > kMaxEighths ? kMaxEighths : n;
}

std::uint64_t Codebook::bytes_for(std::uint32_t layers, std::uint32_t kv_heads,
                                  std::uint32_t head_dim) {
  return kHeaderBytes + std::uint64_t{2} * layers * plane_bytes(std::size_t{kv_heads} * head_dim) +
         kHashBytes;
}

Result<std::shared_ptr<const Codebook>> Codebook::create(std::uint64_t model,
                                                         std::uint32_t kv_heads,
                                                         std::uint32_t head_dim,
                                                         std::vector<CodebookLayer> layers) {
  KVFERRY_TRY(check_shape(layers.size(), kv_heads, head_dim));
  const std::size_t channels = std::size_t{kv_heads} * head_dim;
  for (std::size_t i = 0; i < layers.size(); ++i) {
    for (const Plane p : {Plane::kKey, Plane::kValue}) {
      KVFERRY_TRY(check_plane(layers[i].plane(p), channels,
                              "layer " + std::to_string(i) + " " + name_of(p)));
    }
  }
  std::shared_ptr<Codebook> made(new Codebook);
  made->model_ = model;
  made->kv_heads_ = kv_heads;
  made->head_dim_ = head_dim;
  made->layers_ = std::move(layers);
  made->bytes_.reserve(kHeaderBytes + 2 * made->layers_.size() * plane_bytes(channels) +
                       kHashBytes);
  ByteWriter out(made->bytes_);
  out.raw(Bytes(kMagic));
  out.u8(kVersion);
  for (int i = 0; i < 3; ++i) out.u8(0);
  out.u64(model);
  out.u32(static_cast<std::uint32_t>(made->layers_.size()));
  out.u32(kv_heads);
  out.u32(head_dim);
  out.u32(0);
  for (const CodebookLayer& layer : made->layers_) {
    write_plane(layer.key, out);
    write_plane(layer.value, out);
  }
  const std::uint64_t hash = hash64(made->bytes_);
  out.u64(hash);
  made->id_ = hash == 0 ? 1 : hash;  // 0 means none
  return std::shared_ptr<const Codebook>(std::move(made));
}

Result<std::shared_ptr<const Codebook>> Codebook::parse(Bytes bytes) {
  const auto malformed = [](std::size_t offset, const std::string& what) {
    return Error(ErrorCode::kMalformed, "codebook: byte " + std::to_string(offset) + ": " + what);
  };
  ByteReader in(bytes);
  const Bytes magic = in.raw(sizeof kMagic);
  const std::uint8_t version = in.u8();
  std::uint32_t reserved = 0;
  for (int i = 0; i < 3; ++i) reserved |= in.u8();
  const std::uint64_t model = in.u64();
  const std::uint32_t layers = in.u32();
  const std::uint32_t kv_heads = in.u32();
  const std::uint32_t head_dim = in.u32();
  reserved |= in.u32();
  if (!in.ok()) return malformed(bytes.size(), "ends inside the header");
  if (std::memcmp(magic.data(), kMagic, sizeof kMagic) != 0)
    return malformed(0, "is not a codebook");
  if (version != kVersion) {
    return Error(ErrorCode::kUnsupported, "codebook: version " + std::to_string(version) +
                                              ", this build reads version " +
                                              std::to_string(kVersion));
  }
  const Status shape = check_shape(layers, kv_heads, head_dim);
  if (!shape.ok()) return Error(ErrorCode::kMalformed, shape.error().message);
  // Below 2^31: no overflow, and nothing is allocated that the bytes do not hold.
  const std::size_t channels = std::size_t{kv_heads} * head_dim;
  const std::size_t planes = 2 * std::size_t{layers} * plane_bytes(channels);
  if (in.remaining() != planes + kHashBytes) {
    return malformed(in.offset(), std::to_string(in.remaining()) + " bytes follow instead of " +
                                      std::to_string(planes + kHashBytes));
  }
  if (reserved != 0) return malformed(5, "reserved bytes are not 0");
  std::vector<CodebookLayer> read(layers);
  for (CodebookLayer& layer : read) {
    layer.key = read_plane(channels, in);
    layer.value = read_plane(channels, in);
  }
  if (in.u64() != hash64(bytes.first(bytes.size() - kHashBytes)))
    return Error(ErrorCode::kChecksum, "codebook: the content does not match its hash");
  auto made = create(model, kv_heads, head_dim, std::move(read));
  if (!made.ok()) return Error(ErrorCode::kMalformed, made.error().message);
  return made;
}

std::uint64_t Codebook::model_of(const ModelIdentity& identity) {
  ModelIdentity bare = identity;
  for (std::string* text : {&bare.name, &bare.basename, &bare.finetune, &bare.version})
    text->clear();
  return bare.fingerprint();
}

Status Codebook::fits(const KvGeometry& geometry) const {
  if (geometry.kv_heads == kv_heads_ && geometry.head_dim == head_dim_ &&
      geometry.first_layer <= layers_.size() &&
      geometry.layers <= layers_.size() - geometry.first_layer) {
    return Status();
  }
  return Error(ErrorCode::kMismatch, "the codebook is of " + std::to_string(layers_.size()) +
                                         " layers, " + std::to_string(kv_heads_) + " heads of " +
                                         std::to_string(head_dim_) +
                                         "; the cache has layers up to " +
                                         std::to_string(geometry.first_layer + geometry.layers) +
                                         ", " + std::to_string(geometry.kv_heads) + " heads of " +
                                         std::to_string(geometry.head_dim));
}

}  // namespace kvferry
