// Byte planes with zstd: the method of `lossless`.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include <zstd.h>

#include "kvferry/codec/block.hpp"

namespace kvferry {

// Bytes before the planes: their lengths.
inline std::size_t plane_table_bytes(ElementType type) {
  return 4 * size_of(type);
}

class PlaneEncoder {
 public:
  // Writes table and planes of `rows` to the front of `out`, which has at least
  // plane_table_bytes(type) + rows.size() bytes. Only side and symbols are set.
  BlockSize encode(ElementType type, Bytes rows, MutableBytes out);

 private:
  struct Free {
    void operator()(ZSTD_CCtx* c) const { ZSTD_freeCCtx(c); }
  };
  std::unique_ptr<ZSTD_CCtx, Free> zstd_;
  std::vector<std::uint8_t> plane_;
};

class PlaneDecoder {
 public:
  // Rows of `type`, rows.size() bytes, from `content`, any bytes, which starts at byte `offset` of
  // its block (for messages).
  Status decode(ElementType type, Bytes content, std::size_t offset, MutableBytes rows);

 private:
  Status expand(Bytes coded, std::size_t plane, std::size_t offset, MutableBytes out);

  struct Free {
    void operator()(ZSTD_DCtx* c) const { ZSTD_freeDCtx(c); }
  };
  std::unique_ptr<ZSTD_DCtx, Free> zstd_;
  std::vector<std::uint8_t> plane_;
};

}  // namespace kvferry
