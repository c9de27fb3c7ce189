// Frames and messages: whatever parses is serialized to the same bytes again. An input that begins
// with 'K' is a stream of frames; any other one is a message's type and its payload, so that no
// checksum stands between the fuzzer and the parser.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <vector>

#include "kvferry/wire/frame.hpp"

#include "tests/wire/any_message.hpp"

namespace {

using kvferry::Bytes;
using kvferry::wire::MessageType;

void require(bool holds) {
  if (!holds) std::abort();
}

void check_message(MessageType type, Bytes payload) {
  const auto message = kvferry_test::parse_any(type, payload);
  if (!message.ok()) {
    require(!message.error().message.empty());
    return;
  }
  std::vector<std::uint8_t> again;
  require(kvferry_test::serialize_any(*message, again).ok());
  require(again.size() == payload.size());
  require(std::equal(again.begin(), again.end(), payload.begin()));
}

void check_stream(Bytes stream) {
  kvferry::wire::FrameDecoder decoder;
  std::size_t at = 0;
  while (at < stream.size()) {
    // Pieces of changing size, so that every state of the decoder meets the end of a piece.
    const std::size_t piece = std::min<std::size_t>(stream.size() - at, 1 + at % 61);
    const auto used = decoder.feed(stream.subspan(at, piece));
    if (!used.ok()) break;
    at += *used;
    require(decoder.offset() == at);
    if (!decoder.has_frame()) {
      require(*used == piece && decoder.wanted() > 0);
      continue;
    }
    const kvferry::wire::Frame frame = decoder.take();
    require(frame.payload.size() <= kvferry::wire::kMaxPayload);
    require(frame.header.payload_hash == kvferry::hash64(frame.payload));
    check_message(frame.header.type, frame.payload);
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  if (data[0] == 'K') {
    check_stream(Bytes(data, size));
  } else {
    check_message(static_cast<MessageType>(data[0]), Bytes(data + 1, size - 1));
  }
  return 0;
}
