// Any message: what the golden files, the flip tests and the fuzz target go through.
#pragma once

#include <cstdint>
#include <variant>
#include <vector>

#include "kvferry/core/result.hpp"
#include "kvferry/wire/frame.hpp"
#include "kvferry/wire/serialize.hpp"

namespace kvferry_test {

using AnyMessage = std::variant<
    kvferry::wire::Hello, kvferry::wire::Ping, kvferry::wire::Pong, kvferry::wire::ErrorMessage,
    kvferry::wire::Goodbye, kvferry::wire::Offer, kvferry::wire::Accept, kvferry::wire::FirstToken,
    kvferry::wire::Block, kvferry::wire::Credit, kvferry::wire::End, kvferry::wire::Committed,
    kvferry::wire::Cancel, kvferry::wire::ModelData, kvferry::wire::Generate, kvferry::wire::Ticket,
    kvferry::wire::Attach, kvferry::wire::Token, kvferry::wire::Done>;

template <typename Message>
kvferry::Result<AnyMessage> any(kvferry::Result<Message> parsed) {
  if (!parsed.ok()) return parsed.error();
  return AnyMessage(*std::move(parsed));
}

// A block's `coded`, and model data's `bytes`, point into `payload`.
inline kvferry::Result<AnyMessage> parse_any(kvferry::wire::MessageType type,
                                             kvferry::Bytes payload) {
  using kvferry::wire::MessageType;
  switch (type) {
    case MessageType::kHello:
      return any(kvferry::wire::parse_hello(payload));
    case MessageType::kPing:
      return any(kvferry::wire::parse_ping(payload));
    case MessageType::kPong:
      return any(kvferry::wire::parse_pong(payload));
    case MessageType::kError:
      return any(kvferry::wire::parse_error(payload));
    case MessageType::kGoodbye:
      return any(kvferry::wire::parse_goodbye(payload));
    case MessageType::kOffer:
      return any(kvferry::wire::parse_offer(payload));
    case MessageType::kAccept:
      return any(kvferry::wire::parse_accept(payload));
    case MessageType::kFirstToken:
      return any(kvferry::wire::parse_first_token(payload));
    case MessageType::kBlock:
      return any(kvferry::wire::parse_block(payload));
    case MessageType::kCredit:
      return any(kvferry::wire::parse_credit(payload));
    case MessageType::kEnd:
      return any(kvferry::wire::parse_end(payload));
    case MessageType::kCommitted:
      return any(kvferry::wire::parse_committed(payload));
    case MessageType::kCancel:
      return any(kvferry::wire::parse_cancel(payload));
    case MessageType::kModelData:
      return any(kvferry::wire::parse_model_data(payload));
    case MessageType::kGenerate:
      return any(kvferry::wire::parse_generate(payload));
    case MessageType::kTicket:
      return any(kvferry::wire::parse_ticket(payload));
    case MessageType::kAttach:
      return any(kvferry::wire::parse_attach(payload));
    case MessageType::kToken:
      return any(kvferry::wire::parse_token(payload));
    case MessageType::kDone:
      return any(kvferry::wire::parse_done(payload));
  }
  return kvferry::Error(kvferry::ErrorCode::kUnsupported, "no such message type");
}

inline kvferry::Status serialize_any(const AnyMessage& message, std::vector<std::uint8_t>& out) {
  return std::visit([&out](const auto& m) { return kvferry::wire::serialize(m, out); }, message);
}

// A frame whose payload is what its message says.
struct DecodedFrame {
  kvferry::wire::Frame frame;
  AnyMessage message;
};

// The single frame that `bytes` are, and its message; the error of whichever part is bad.
inline kvferry::Result<DecodedFrame> decode_frame(kvferry::Bytes bytes) {
  kvferry::wire::FrameDecoder decoder;
  KVFERRY_ASSIGN(const std::size_t used, decoder.feed(bytes));
  KVFERRY_TRY(decoder.finish());
  if (!decoder.has_frame())
    return kvferry::Error(kvferry::ErrorCode::kIncomplete, "there are no bytes");
  if (used != bytes.size())
    return kvferry::Error(kvferry::ErrorCode::kMalformed, "bytes after the frame");
  DecodedFrame decoded;
  decoded.frame = decoder.take();
  KVFERRY_ASSIGN(decoded.message, parse_any(decoded.frame.header.type, decoded.frame.payload));
  return decoded;
}

}  // namespace kvferry_test
