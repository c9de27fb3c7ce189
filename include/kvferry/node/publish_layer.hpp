// publish_layer(): what a prefill has finished, with the classes of its tokens.
#pragma once

#include <cstdint>
#include <vector>

#include "kvferry/codec/token_classes.hpp"
#include "kvferry/core/result.hpp"
#include "kvferry/engine/prefill.hpp"

namespace kvferry {

// For PrefillRequest::on_layer. `handoff` has SendSession's publish(). The tokens get classes when
// the prefill measures attention (PrefillRequest::attention).
template <typename Handoff>
Status publish_layer(Handoff& handoff, const LayerReady& ready) {
  KVFERRY_TRY(ready.fence.wait());
  std::vector<std::uint8_t> classes(ready.attention.size());
  token_classes(ready.attention, classes);
  return handoff.publish(ready.layer, ready.begin, ready.end, classes);
}

}  // namespace kvferry
