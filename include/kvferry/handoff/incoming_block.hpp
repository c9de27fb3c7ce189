// IncomingBlock: a block of a hand-off that came, to decode and write.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "kvferry/cache/geometry.hpp"
#include "kvferry/core/span.hpp"
#include "kvferry/wire/messages.hpp"

namespace kvferry {

struct IncomingBlock {
  std::size_t link = 0;  // of the HandoffReceiver
  KvRange range;
  std::vector<std::uint8_t> payload;  // of the BLOCK frame
  Bytes coded() const { return Bytes(payload).subspan(wire::kBlockHeadBytes); }
};

}  // namespace kvferry
