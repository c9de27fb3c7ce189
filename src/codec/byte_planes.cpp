#include "byte_planes.hpp"

#include <cassert>
#include <cstring>
#include <string>

#include "kvferry/core/bytes.hpp"

namespace kvferry {
namespace {

// Level 3 is where the exponent bytes stop shrinking; higher levels only cost time.
constexpr int kZstdLevel = 3;

}  // namespace

BlockSize PlaneEncoder::encode(ElementType type, Bytes rows, MutableBytes out) {
  const std::size_t planes = size_of(type);
  const std::size_t values = rows.size() / planes;
  assert(out.size() >= plane_table_bytes(type) + rows.size());
  if (!zstd_) zstd_.reset(ZSTD_createCCtx());
  plane_.resize(values);
  std::size_t at = plane_table_bytes(type);
  for (std::size_t p = 0; p < planes; ++p) {
    for (std::size_t i = 0; i < values; ++i) plane_[i] = rows[i * planes + p];
    // Offered less room than the plane needs, zstd fails where storing is as good.
    std::size_t coded = values;
    if (zstd_ && values > 1) {
      coded = ZSTD_compressCCtx(zstd_.get(), out.data() + at, values - 1, plane_.data(), values,
                                kZstdLevel);
      if (ZSTD_isError(coded)) coded = values;
    }
    if (coded == values) std::memcpy(out.data() + at, plane_.data(), values);
    for (std::size_t b = 0; b < 4; ++b)
      out[4 * p + b] = static_cast<std::uint8_t>(coded >> (8 * b));
    at += coded;
  }
  BlockSize size;
  size.side = plane_table_bytes(type);
  size.symbols = at - size.side;
  return size;
}

Status PlaneDecoder::expand(Bytes coded, std::size_t plane, std::size_t offset, MutableBytes out) {
  if (coded.size() == out.size()) {
    std::memcpy(out.data(), coded.data(), out.size());
    return Status();
  }
  const auto refuse = [plane, offset](const std::string& what) {
    return Status(ErrorCode::kMalformed, "codec block: byte " + std::to_string(offset) +
                                             ": byte plane " + std::to_string(plane) + " " + what);
  };
  // Everything is checked before zstd expands anything: one frame, of exactly the plane's size.
  if (ZSTD_getFrameContentSize(coded.data(), coded.size()) != out.size())
    return refuse("is not a zstd frame of " + std::to_string(out.size()) + " bytes");
  if (ZSTD_findFrameCompressedSize(coded.data(), coded.size()) != coded.size())
    return refuse("is cut off or has bytes after its zstd frame");
  if (!zstd_) zstd_.reset(ZSTD_createDCtx());
  if (!zstd_) return Error(ErrorCode::kResourceExhausted, "codec: no memory for a zstd context");
  const std::size_t got =
      ZSTD_decompressDCtx(zstd_.get(), out.data(), out.size(), coded.data(), coded.size());
  if (ZSTD_isError(got)) return refuse(std::string("does not expand: ") + ZSTD_getErrorName(got));
  if (got != out.size()) return refuse("expands to " + std::to_string(got) + " bytes");
  return Status();
}

Status PlaneDecoder::decode(ElementType type, Bytes content, std::size_t offset,
                            MutableBytes rows) {
  const std::size_t planes = size_of(type);
  const std::size_t values = rows.size() / planes;
  const auto refuse = [offset](std::size_t at, const std::string& what) {
    return Status(ErrorCode::kMalformed,
                  "codec block: byte " + std::to_string(offset + at) + ": " + what);
  };
  ByteReader table(content);
  std::uint32_t lengths[4] = {};
  for (std::size_t p = 0; p < planes; ++p) lengths[p] = table.u32();
  if (!table.ok()) return refuse(content.size(), "ends inside the table of byte planes");
  std::size_t at = table.offset();
  plane_.resize(values);
  for (std::size_t p = 0; p < planes; ++p) {
    if (lengths[p] == 0 || lengths[p] > values)
      return refuse(4 * p, "byte plane of " + std::to_string(lengths[p]) + " bytes for " +
                               std::to_string(values) + " values");
    if (lengths[p] > content.size() - at) {
      return refuse(content.size(), "ends inside byte plane " + std::to_string(p));
    }
    KVFERRY_TRY(expand(content.subspan(at, lengths[p]), p, offset + at, plane_));
    for (std::size_t i = 0; i < values; ++i) rows[i * planes + p] = plane_[i];
    at += lengths[p];
  }
  if (at != content.size())
    return refuse(at, std::to_string(content.size() - at) + " bytes after the last byte plane");
  return Status();
}

}  // namespace kvferry
