// Frames: header bytes, the decoder on streams cut anywhere, and what it refuses.
#include "kvferry/wire/frame.hpp"

#include <catch2/catch.hpp>

using namespace kvferry;
using namespace kvferry::wire;

namespace {

using ByteVector = std::vector<std::uint8_t>;

ByteVector block_frame(std::size_t payload_bytes, const FrameAddress& address = {5, 1, 2}) {
  ByteVector payload(payload_bytes);
  for (std::size_t i = 0; i < payload.size(); ++i) payload[i] = static_cast<std::uint8_t>(7 * i);
  ByteVector frame;
  write_frame(MessageType::kBlock, address, payload, frame);
  return frame;
}

// Puts the right checksum at the end of the header that begins `frame`.
void sign_header(ByteVector& frame, std::size_t header_bytes = kHeaderBytes) {
  const std::size_t at = header_bytes - 8;
  const std::uint64_t checksum = hash64(Bytes(frame).first(at));
  for (std::size_t i = 0; i < 8; ++i)
    frame[at + i] = static_cast<std::uint8_t>(checksum >> (8 * i));
}

Error refusal(const ByteVector& bytes, std::uint32_t max_payload = kMaxPayload) {
  FrameDecoder decoder(max_payload);
  const auto used = decoder.feed(bytes);
  REQUIRE_FALSE(used.ok());
  return used.error();
}

}  // namespace

TEST_CASE("A header has its fields at their documented offsets") {
  FrameHeader header;
  header.type = MessageType::kBlock;
  header.flags = 0x0102;
  header.address = {0x1122334455667788u, 0x99aabbccu, 0xddee};
  header.payload_bytes = 0x00010203;
  header.payload_hash = 0x0807060504030201u;
  const auto bytes = encode_header(header);
  const std::array<std::uint8_t, 40> expected = {
      {'K',  'V',  'F',  'Y',  1,    19,   0x02, 0x01, 0x88, 0x77, 0x66, 0x55, 0x44, 0x33,
       0x22, 0x11, 0xcc, 0xbb, 0xaa, 0x99, 0xee, 0xdd, 48,   0,    3,    2,    1,    0,
       0,    0,    0,    0,    1,    2,    3,    4,    5,    6,    7,    8}};
  CHECK(std::equal(expected.begin(), expected.end(), bytes.begin()));
  CHECK(ByteReader(Bytes(bytes).subspan(40)).u64() == hash64(Bytes(bytes).first(40)));
}

TEST_CASE("The payload of a frame may lie in two pieces") {
  const ByteVector whole = {1, 2, 3, 4, 5};
  const FrameHeader one = make_header(MessageType::kBlock, {1, 1, 1}, whole);
  for (std::size_t cut = 0; cut <= whole.size(); ++cut) {
    const FrameHeader two = make_header(MessageType::kBlock, {1, 1, 1}, Bytes(whole).first(cut),
                                        Bytes(whole).subspan(cut));
    CHECK(encode_header(two) == encode_header(one));
  }
}

TEST_CASE("A stream cut into pieces of any size gives the same frames") {
  ByteVector stream;
  const std::vector<std::size_t> sizes = {0, 1, 100, 0, 70000};
  for (const std::size_t size : sizes) {
    const ByteVector frame = block_frame(size);
    stream.insert(stream.end(), frame.begin(), frame.end());
  }
  for (const std::size_t piece : {std::size_t{1}, std::size_t{7}, std::size_t{47}, std::size_t{48},
                                  std::size_t{49}, stream.size()}) {
    FrameDecoder decoder;
    std::vector<Frame> frames;
    for (std::size_t at = 0; at < stream.size();) {
      const std::size_t offered = std::min(piece, stream.size() - at);
      const auto used = decoder.feed(Bytes(stream).subspan(at, offered));
      REQUIRE(used.ok());
      at += *used;
      CHECK(decoder.offset() == at);
      if (decoder.has_frame()) {
        CHECK(decoder.wanted() == 0);
        CHECK(*decoder.feed(stream) == 0);
        frames.push_back(decoder.take());
      }
    }
    CHECK(decoder.finish().ok());
    REQUIRE(frames.size() == sizes.size());
    for (std::size_t i = 0; i < sizes.size(); ++i) {
      CHECK(frames[i].header.address.handoff == 5);
      CHECK(frames[i].header.address.source == 2);
      REQUIRE(frames[i].payload.size() == sizes[i]);
      for (std::size_t k = 0; k < sizes[i]; k += 997)
        CHECK(frames[i].payload[k] == static_cast<std::uint8_t>(7 * k));
    }
  }
}

TEST_CASE("The decoder says how many bytes it wants") {
  const ByteVector frame = block_frame(100);
  FrameDecoder decoder;
  CHECK(decoder.wanted() == 48);
  CHECK(*decoder.feed(Bytes(frame).first(40)) == 40);
  CHECK(decoder.wanted() == 8);
  CHECK(*decoder.feed(Bytes(frame).subspan(40, 8)) == 8);
  CHECK(decoder.wanted() == 100);
  CHECK(*decoder.feed(Bytes(frame).subspan(48, 99)) == 99);
  CHECK(decoder.wanted() == 1);
  CHECK_FALSE(decoder.has_frame());
}

TEST_CASE("A stream that ends inside a frame is incomplete at every byte") {
  const ByteVector frame = block_frame(20);
  for (std::size_t size = 1; size < frame.size(); ++size) {
    FrameDecoder decoder;
    REQUIRE(decoder.feed(Bytes(frame).first(size)).ok());
    const Status finished = decoder.finish();
    REQUIRE_FALSE(finished.ok());
    CHECK(finished.error().code == ErrorCode::kIncomplete);
  }
  CHECK(FrameDecoder().finish().ok());
}

TEST_CASE("An error names the offset of its frame, and the decoder stays failed") {
  ByteVector stream = block_frame(10);
  const ByteVector bad = block_frame(10);
  stream.insert(stream.end(), bad.begin(), bad.end());
  stream.back() ^= 1;
  FrameDecoder decoder;
  REQUIRE(*decoder.feed(stream) == 58);
  decoder.take();
  const auto failed = decoder.feed(Bytes(stream).subspan(58));
  REQUIRE_FALSE(failed.ok());
  CHECK(failed.error().code == ErrorCode::kChecksum);
  CHECK(failed.error().message.find("byte 58") != std::string::npos);
  const auto again = decoder.feed(block_frame(1));
  REQUIRE_FALSE(again.ok());
  CHECK(again.error().message == failed.error().message);
  CHECK(decoder.finish().error().message == failed.error().message);
  CHECK(decoder.wanted() == 0);
}

TEST_CASE("Something that is no frame is refused at its fourth byte") {
  const std::string http = "GET / HTTP/1.1\r\n";
  FrameDecoder decoder;
  CHECK(decoder.feed(as_bytes(http).first(3)).ok());
  const auto failed = decoder.feed(as_bytes(http).subspan(3, 1));
  REQUIRE_FALSE(failed.ok());
  CHECK(failed.error().code == ErrorCode::kMalformed);
}

TEST_CASE("A longer header is read, its extension skipped and checked") {
  const ByteVector plain = block_frame(9);
  for (const std::size_t header_bytes : {std::size_t{56}, std::size_t{256}}) {
    ByteVector frame(plain.begin(), plain.begin() + 40);
    frame[22] = static_cast<std::uint8_t>(header_bytes);
    frame[23] = static_cast<std::uint8_t>(header_bytes >> 8);
    frame.resize(header_bytes, 0xee);
    sign_header(frame, header_bytes);
    frame.insert(frame.end(), plain.begin() + 48, plain.end());
    FrameDecoder decoder;
    CHECK(*decoder.feed(frame) == frame.size());
    REQUIRE(decoder.has_frame());
    CHECK(decoder.take().payload.size() == 9);

    frame[41] ^= 1;
    CHECK(refusal(frame).code == ErrorCode::kChecksum);
  }
}

TEST_CASE("Flags: the low eight may be ignored, the high eight must be understood") {
  ByteVector frame = block_frame(3);
  frame[6] = 0xff;
  sign_header(frame);
  FrameDecoder decoder;
  REQUIRE(decoder.feed(frame).ok());
  REQUIRE(decoder.has_frame());
  CHECK(decoder.take().header.flags == 0x00ff);

  for (int bit = 8; bit < 16; ++bit) {
    frame[7] = static_cast<std::uint8_t>(1 << (bit - 8));
    sign_header(frame);
    const Error error = refusal(frame);
    CHECK(error.code == ErrorCode::kUnsupported);
    CHECK(error.message.find("bit " + std::to_string(bit)) != std::string::npos);
  }
}

TEST_CASE("Headers that are refused") {
  ByteVector frame = block_frame(3);
  const auto with = [&](std::size_t at, std::uint8_t value) {
    ByteVector bad = frame;
    bad[at] = value;
    sign_header(bad);
    return refusal(bad).code;
  };
  CHECK(with(4, 0) == ErrorCode::kUnsupported);         // version
  CHECK(with(4, 2) == ErrorCode::kUnsupported);         // version
  CHECK(with(5, 0) == ErrorCode::kUnsupported);         // type
  CHECK(with(5, 25) == ErrorCode::kUnsupported);        // type
  CHECK(with(22, 40) == ErrorCode::kMalformed);         // header length
  CHECK(with(22, 52) == ErrorCode::kMalformed);         // header length
  CHECK(with(23, 2) == ErrorCode::kMalformed);          // header length
  CHECK(with(28, 1) == ErrorCode::kMalformed);          // reserved
  CHECK(with(27, 1) == ErrorCode::kResourceExhausted);  // payload length 2^24 + 3
  CHECK(with(8, 0) == ErrorCode::kMalformed);           // BLOCK of no handoff
  CHECK(with(16, 0) == ErrorCode::kMalformed);          // epoch 0
  CHECK(with(20, 0) == ErrorCode::kMalformed);          // source 0
  CHECK(with(5, 2) == ErrorCode::kMalformed);           // PING of a handoff
  CHECK(with(5, 35) == ErrorCode::kMalformed);          // TOKEN of a handoff
  frame[47] ^= 0x80;
  CHECK(refusal(frame).code == ErrorCode::kChecksum);
}

TEST_CASE("ERROR, CANCEL and MODEL_DATA belong to a handoff or to the connection") {
  for (const MessageType type :
       {MessageType::kError, MessageType::kCancel, MessageType::kModelData}) {
    for (const FrameAddress& address : {FrameAddress{0, 0, 0}, FrameAddress{9, 2, 1}}) {
      ByteVector frame;
      write_frame(type, address, Bytes(), frame);
      FrameDecoder decoder;
      CHECK(decoder.feed(frame).ok());
      CHECK(decoder.has_frame());
    }
  }
}

TEST_CASE("The cap on the payload is the smaller of this end's and the format's") {
  const ByteVector frame = block_frame(1001);
  CHECK(refusal(frame, 1000).code == ErrorCode::kResourceExhausted);
  FrameDecoder decoder(1001);
  CHECK(decoder.feed(frame).ok());

  FrameHeader header = make_header(MessageType::kBlock, {1, 1, 1}, Bytes());
  header.payload_bytes = kMaxPayload + 1;
  const auto bytes = encode_header(header);
  FrameDecoder generous(0xffffffff);
  const auto failed = generous.feed(bytes);
  REQUIRE_FALSE(failed.ok());
  CHECK(failed.error().code == ErrorCode::kResourceExhausted);
}
