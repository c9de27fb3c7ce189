// OutgoingFrame: what the hand-off's state machines give to be sent.
#pragma once

#include <cassert>
#include <cstdint>
#include <utility>
#include <vector>

#include "kvferry/wire/frame.hpp"
#include "kvferry/wire/serialize.hpp"

namespace kvferry {

struct OutgoingFrame {
  wire::FrameHeader header;
  std::vector<std::uint8_t> head;  // the payload; of a BLOCK only its coordinates
  std::vector<std::uint8_t> tail;  // coded bytes of a BLOCK
};

// A frame with `message`, which the caller knows to be within the format's caps.
template <typename Message>
OutgoingFrame outgoing(wire::MessageType type, const wire::FrameAddress& address,
                       const Message& message) {
  OutgoingFrame frame;
  const Status serialized = wire::serialize(message, frame.head);
  assert(serialized.ok());
  static_cast<void>(serialized);
  frame.header = wire::make_header(type, address, frame.head);
  return frame;
}

// The coordinates of `range`, which has at most kMaxBlockTokens tokens.
inline wire::Block block_at(const KvRange& range) {
  wire::Block block;
  block.layer = range.layer;
  block.plane = range.plane;
  block.begin = range.begin;
  block.tokens = static_cast<std::uint16_t>(range.tokens());
  return block;
}

// A BLOCK frame. kInvalidArgument when `coded` is empty or longer than a payload may be.
inline Result<OutgoingFrame> outgoing_block(const wire::FrameAddress& address, const KvRange& range,
                                            std::uint8_t profile, std::vector<std::uint8_t> coded) {
  OutgoingFrame frame;
  frame.tail = std::move(coded);
  wire::Block block = block_at(range);
  block.profile = profile;
  block.coded = frame.tail;
  KVFERRY_TRY(wire::serialize_head(block, frame.head));
  frame.header = wire::make_header(wire::MessageType::kBlock, address, frame.head, frame.tail);
  return frame;
}

inline OutgoingFrame outgoing_error(const wire::FrameAddress& address, const Error& error) {
  return outgoing(wire::MessageType::kError, address, wire::to_message(error));
}

inline OutgoingFrame outgoing_cancel(const wire::FrameAddress& address, const Error& reason) {
  const wire::ErrorMessage message = wire::to_message(reason);
  return outgoing(wire::MessageType::kCancel, address, wire::Cancel{message.code, message.text});
}

}  // namespace kvferry
