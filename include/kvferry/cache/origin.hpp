// KvOrigin: what the content of a cache depends on besides its tokens.
#pragma once

#include <cstdint>
#include <string>

namespace kvferry {

// How the rows of a cache came to be. It travels with them.
struct Provenance {
  std::string path;                  // compute path, "cpu", "reference", "ampere-int8", …
  std::string weight_format;         // of the matrices, "q4_1", …
  std::uint32_t codec_history = 0;   // bit per codec profile that they went through since computed
  std::int32_t position_offset = 0;  // added to the positions that they were computed at

  bool operator==(const Provenance& o) const {
    return path == o.path && weight_format == o.weight_format && codec_history == o.codec_history &&
           position_offset == o.position_offset;
  }
  bool operator!=(const Provenance& o) const { return !(*this == o); }
};

// Two caches are interchangeable only if their origins and their token ids are equal.
struct KvOrigin {
  std::uint64_t model = 0;   // fingerprint of the ModelIdentity; 0 when unknown
  std::uint32_t slides = 0;  // times that the middle was dropped and positions shifted
  Provenance provenance;

  bool operator==(const KvOrigin& o) const {
    return model == o.model && slides == o.slides && provenance == o.provenance;
  }
  bool operator!=(const KvOrigin& o) const { return !(*this == o); }
};

}  // namespace kvferry
