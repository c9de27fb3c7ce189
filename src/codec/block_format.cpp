#include "kvferry/codec/block_format.hpp"

#include <cassert>

#include "kvferry/codec/block.hpp"
#include "kvferry/core/bytes.hpp"

namespace kvferry {
namespace {

const char* name_of_feature(std::uint16_t bit) {
  switch (static_cast<BlockFeature>(bit)) {
    case BlockFeature::kCodebook:
      return "codebook";
    case BlockFeature::kTokenClasses:
      return "token classes";
    case BlockFeature::kPrediction:
      return "prediction";
  }
  return nullptr;
}

Error unknown_features(std::uint16_t bits) {
  std::string names;
  for (std::uint32_t i = 0; i < 16; ++i) {
    const auto bit = static_cast<std::uint16_t>(1u << i);
    if ((bits & bit) == 0) continue;
    const char* name = name_of_feature(bit);
    names += (names.empty() ? "" : ", ") + (name ? name : "bit " + std::to_string(i));
  }
  return Error(ErrorCode::kUnsupported,
               "codec block: needs features that this build does not have: " + names);
}

Error malformed(std::size_t offset, const std::string& what) {
  return Error(ErrorCode::kMalformed, "codec block: byte " + std::to_string(offset) + ": " + what);
}

bool method_fits(Profile profile, BlockMethod method) {
  switch (profile) {
    case Profile::kRaw:
      return method == BlockMethod::kStored;
    case Profile::kLossless:
      return method == BlockMethod::kPlanes;
    case Profile::kHigh:
    case Profile::kMedium:
    case Profile::kLow:
    case Profile::kLowest:
      return method == BlockMethod::kQuantised || method == BlockMethod::kPlanes;
    case Profile::kQ8:
      return method == BlockMethod::kInt8Groups || method == BlockMethod::kPlanes;
    case Profile::kQ4H:
      return method == BlockMethod::kInt4Groups || method == BlockMethod::kPlanes;
  }
  return false;
}

constexpr auto kKnownFeatures =
    static_cast<std::uint16_t>(static_cast<std::uint16_t>(BlockFeature::kCodebook) |
                               static_cast<std::uint16_t>(BlockFeature::kTokenClasses));

// The fields of the required features; those of optional ones follow.
Status parse_extension(Bytes extension, BlockHeader& h) {
  ByteReader in(extension);
  const auto at = [&in] { return kBlockHeaderBytes + in.offset(); };
  if (h.needs(BlockFeature::kCodebook)) {
    h.codebook = in.u64();
    if (in.ok() && h.codebook == 0) return malformed(kBlockHeaderBytes, "codebook 0");
  }
  if (h.needs(BlockFeature::kTokenClasses)) {
    const std::size_t begin = at();
    h.token_classes = in.raw((h.tokens + 3u) / 4);
    for (std::size_t t = 0; in.ok() && t < 4 * h.token_classes.size(); ++t) {
      if (h.class_of(t) > (t < h.tokens ? kMaxTokenClass : 0))
        return malformed(begin + t / 4, "class of token " + std::to_string(t));
    }
  }
  if (!in.ok()) return malformed(18, "the extension is too short for its features");
  if (in.remaining() != 0 && h.optional_features == 0)
    return malformed(at(), "bytes after the extension's fields");
  return Status();
}

}  // namespace

Result<BlockHeader> parse_block_header(Bytes block) {
  if (block.size() < kBlockHeaderBytes) {
    return malformed(block.size(),
                     "ends inside the header of " + std::to_string(kBlockHeaderBytes) + " bytes");
  }
  ByteReader reader(block);
  const std::uint8_t version = reader.u8();
  const std::uint8_t profile = reader.u8();
  const std::uint8_t method = reader.u8();
  const std::uint8_t type = reader.u8();
  const std::uint8_t plane = reader.u8();
  const std::uint8_t reserved = reader.u8();
  BlockHeader h;
  h.layer = reader.u16();
  h.begin = reader.u32();
  h.tokens = reader.u16();
  h.required_features = reader.u16();
  h.optional_features = reader.u16();
  h.extension_bytes = reader.u16();

  if (version != kBlockVersion) {
    return Error(ErrorCode::kUnsupported, "codec block: version " + std::to_string(version) +
                                              ", this build reads version " +
                                              std::to_string(kBlockVersion));
  }
  h.profile = static_cast<Profile>(profile);
  if (!is_available(h.profile)) {
    return Error(ErrorCode::kUnsupported, "codec block: profile " + std::to_string(profile) + " (" +
                                              name_of(h.profile) + ") is not in this build");
  }
  const auto unknown = static_cast<std::uint16_t>(h.required_features & ~kKnownFeatures);
  if (unknown != 0) return unknown_features(unknown);
  h.method = static_cast<BlockMethod>(method);
  if (!method_fits(h.profile, h.method)) {
    return malformed(2, "method " + std::to_string(method) + " does not belong to profile " +
                            name_of(h.profile));
  }
  if (type > static_cast<std::uint8_t>(ElementType::kF32))
    return malformed(3, "element type " + std::to_string(type));
  h.type = static_cast<ElementType>(type);
  if (plane > static_cast<std::uint8_t>(Plane::kValue))
    return malformed(4, "plane " + std::to_string(plane));
  h.plane = static_cast<Plane>(plane);
  if (reserved != 0) return malformed(5, "reserved byte is " + std::to_string(reserved));
  if (h.tokens == 0 || h.tokens > kMaxBlockTokens)
    return malformed(12, "token count " + std::to_string(h.tokens));
  if (h.required_features != 0 && h.method != BlockMethod::kQuantised)
    return malformed(14, "features that method " + std::to_string(method) + " does not have");
  if (h.extension_bytes != 0 && h.required_features == 0 && h.optional_features == 0)
    return malformed(18, "an extension without a feature");
  if (h.extension_bytes > reader.remaining()) {
    return malformed(18, "extension of " + std::to_string(h.extension_bytes) + " bytes, " +
                             std::to_string(reader.remaining()) + " are left");
  }
  KVFERRY_TRY(parse_extension(block.subspan(kBlockHeaderBytes, h.extension_bytes), h));
  return h;
}

void write_block_header(const BlockHeader& h, MutableBytes out) {
  assert(out.size() >= kBlockHeaderBytes);
  std::uint8_t* at = out.data();
  const auto put = [&at](std::uint64_t value, int bytes) {
    for (; bytes > 0; --bytes, value >>= 8) *at++ = static_cast<std::uint8_t>(value);
  };
  put(kBlockVersion, 1);
  put(static_cast<std::uint8_t>(h.profile), 1);
  put(static_cast<std::uint8_t>(h.method), 1);
  put(static_cast<std::uint8_t>(h.type), 1);
  put(static_cast<std::uint8_t>(h.plane), 1);
  put(0, 1);
  put(h.layer, 2);
  put(h.begin, 4);
  put(h.tokens, 2);
  put(h.required_features, 2);
  put(h.optional_features, 2);
  put(h.extension_bytes, 2);
}

}  // namespace kvferry
