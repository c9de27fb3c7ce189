// Frames: a 48-byte header and a payload, the unit of everything that travels or lies in a session
// file. No I/O: encode_header() gives bytes, FrameDecoder takes them as they come.
#pragma once

#include <algorithm>
#include <array>
#include <cassert>
#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "kvferry/core/bytes.hpp"
#include "kvferry/core/hash.hpp"
#include "kvferry/core/result.hpp"
#include "kvferry/core/span.hpp"
#include "kvferry/wire/messages.hpp"

namespace kvferry::wire {

// Byte offsets in the header. The header checksum is the last eight bytes of the header, wherever
// it ends; a later revision of version 1 may put fields between kHeaderExtension and it.
constexpr std::size_t kHeaderBytes = 48;      // of a header that this version writes
constexpr std::size_t kMaxHeaderBytes = 256;  // of a header that this version reads
constexpr std::size_t kHeaderExtension = 40;
constexpr std::array<std::uint8_t, 4> kMagic = {{'K', 'V', 'F', 'Y'}};
constexpr std::uint16_t kRequiredFlags = 0xff00;  // an unknown set bit of these refuses the frame

// Which conversation a frame belongs to.
struct FrameAddress {
  std::uint64_t handoff = 0;  // chosen by the sender of the offer; 0 = the connection itself
  std::uint32_t epoch = 0;    // attempt of the handoff, from 1; frames of another one are dropped
  std::uint16_t source = 0;   // 1..N: whose frames, or to whom; 0 outside of a handoff
};

struct FrameHeader {
  MessageType type = MessageType::kPing;
  std::uint16_t flags = 0;  // version 1 defines none
  FrameAddress address;
  std::uint32_t payload_bytes = 0;
  std::uint64_t payload_hash = 0;  // XXH64
};

// A received frame; the payload was verified against header.payload_hash.
struct Frame {
  FrameHeader header;
  std::vector<std::uint8_t> payload;
};

// "OFFER", "BLOCK", …; nullptr for a number that version 1 does not define.
inline const char* name_of(MessageType type) {
  switch (type) {
    case MessageType::kHello:
      return "HELLO";
    case MessageType::kPing:
      return "PING";
    case MessageType::kPong:
      return "PONG";
    case MessageType::kError:
      return "ERROR";
    case MessageType::kGoodbye:
      return "GOODBYE";
    case MessageType::kOffer:
      return "OFFER";
    case MessageType::kAccept:
      return "ACCEPT";
    case MessageType::kFirstToken:
      return "FIRST_TOKEN";
    case MessageType::kBlock:
      return "BLOCK";
    case MessageType::kCredit:
      return "CREDIT";
    case MessageType::kEnd:
      return "END";
    case MessageType::kCommitted:
      return "COMMITTED";
    case MessageType::kCancel:
      return "CANCEL";
    case MessageType::kModelData:
      return "MODEL_DATA";
    case MessageType::kGenerate:
      return "GENERATE";
    case MessageType::kTicket:
      return "TICKET";
    case MessageType::kAttach:
      return "ATTACH";
    case MessageType::kToken:
      return "TOKEN";
    case MessageType::kDone:
      return "DONE";
  }
  return nullptr;
}

// Whether frames of this type name a handoff, or the connection (handoff 0). ERROR, CANCEL and
// MODEL_DATA may do either and are neither.
inline bool belongs_to_handoff(MessageType type) {
  return type >= MessageType::kOffer && type < MessageType::kCancel;
}
inline bool belongs_to_connection(MessageType type) {
  return type != MessageType::kError && type != MessageType::kCancel &&
         type != MessageType::kModelData && !belongs_to_handoff(type);
}

// The header of a frame whose payload is `head` followed by `tail`. Two pieces, so that a block is
// sent from where it was encoded: head holds its coordinates, tail the coded bytes. The payload is
// at most kMaxPayload (the caller keeps to it, and to what the peer's HELLO allows).
inline FrameHeader make_header(MessageType type, const FrameAddress& address, Bytes head,
                               Bytes tail = Bytes()) {
  FrameHeader header;
  header.type = type;
  header.address = address;
  header.payload_bytes = static_cast<std::uint32_t>(head.size() + tail.size());
  if (tail.empty()) {
    header.payload_hash = hash64(head);
  } else {
    Hasher hasher;
    hasher.update(head);
    hasher.update(tail);
    header.payload_hash = hasher.digest();
  }
  return header;
}

// The 48 bytes that stand before the payload.
inline std::array<std::uint8_t, kHeaderBytes> encode_header(const FrameHeader& header) {
  std::vector<std::uint8_t> bytes;
  bytes.reserve(kHeaderBytes);
  ByteWriter out(bytes);
  out.raw(kMagic);
  out.u8(static_cast<std::uint8_t>(kVersion));
  out.u8(static_cast<std::uint8_t>(header.type));
  out.u16(header.flags);
  out.u64(header.address.handoff);
  out.u32(header.address.epoch);
  out.u16(header.address.source);
  out.u16(static_cast<std::uint16_t>(kHeaderBytes));
  out.u32(header.payload_bytes);
  out.u32(0);  // reserved
  out.u64(header.payload_hash);
  out.u64(hash64(bytes));
  std::array<std::uint8_t, kHeaderBytes> encoded;
  std::copy(bytes.begin(), bytes.end(), encoded.begin());
  return encoded;
}

// Appends a whole frame to `out`.
inline void write_frame(MessageType type, const FrameAddress& address, Bytes payload,
                        std::vector<std::uint8_t>& out) {
  const auto header = encode_header(make_header(type, address, payload));
  out.insert(out.end(), header.begin(), header.end());
  out.insert(out.end(), payload.begin(), payload.end());
}

// Turns a byte stream, cut anywhere, into frames. Holds at most one frame. After an error it stays
// failed: a stream that broke once has lost its frame boundaries.
//
//   while (!bytes.empty()) {
//     KVFERRY_ASSIGN(const std::size_t used, decoder.feed(bytes));
//     bytes = bytes.subspan(used);
//     if (decoder.has_frame()) handle(decoder.take());
//   }
class FrameDecoder {
 public:
  // `max_payload`: what this end announced in its HELLO; longer frames are refused.
  explicit FrameDecoder(std::uint32_t max_payload = kMaxPayload)
      : max_payload_(std::min(max_payload, kMaxPayload)) {}

  // Takes bytes from the front of `bytes` and says how many: all, or those up to the end of a
  // frame. Takes none while a frame waits to be taken.
  Result<std::size_t> feed(Bytes bytes);

  bool has_frame() const { return ready_; }

  // The frame, once; only when has_frame().
  Frame take();

  // Bytes that may be read before a frame can be ready: those missing of the header, then those
  // missing of the payload. 0 when a frame waits or after an error.
  std::size_t wanted() const;

  // To be called when the stream ends: kIncomplete when it ends inside a frame.
  Status finish() const;

  // Bytes of the stream taken so far.
  std::uint64_t offset() const { return frame_offset_ + header_.size() + payload_.size(); }

 private:
  std::size_t fill(std::vector<std::uint8_t>& to, std::size_t size, Bytes bytes) const;
  Status check_prefix();
  Status check_header();
  Status check_address(const char* name) const;
  Status check_payload() const;
  Error fail(ErrorCode code, const std::string& what) const;

  std::uint32_t max_payload_;
  std::uint64_t frame_offset_ = 0;  // of the frame's first byte in the stream
  std::size_t header_bytes_ = kHeaderBytes;
  bool header_done_ = false;
  bool ready_ = false;
  std::vector<std::uint8_t> header_;
  std::vector<std::uint8_t> payload_;
  FrameHeader parsed_;
  Status failed_;
};

inline Result<std::size_t> FrameDecoder::feed(Bytes bytes) {
  if (!failed_.ok()) return failed_.error();
  std::size_t used = 0;
  while (!ready_ && used < bytes.size()) {
    const Bytes rest = bytes.subspan(used);
    if (!header_done_) {
      used += fill(header_, header_bytes_, rest);
      failed_ = header_.size() < header_bytes_ ? check_prefix() : check_header();
    } else {
      used += fill(payload_, parsed_.payload_bytes, rest);
    }
    if (failed_.ok() && header_done_ && payload_.size() == parsed_.payload_bytes) {
      failed_ = check_payload();
      ready_ = failed_.ok();
    }
    if (!failed_.ok()) return failed_.error();
  }
  return used;
}

inline Frame FrameDecoder::take() {
  assert(ready_);
  Frame frame;
  frame.header = parsed_;
  frame_offset_ = offset();
  frame.payload = std::move(payload_);
  payload_ = {};
  header_.clear();
  header_bytes_ = kHeaderBytes;
  header_done_ = false;
  ready_ = false;
  return frame;
}

inline std::size_t FrameDecoder::wanted() const {
  if (ready_ || !failed_.ok()) return 0;
  return header_done_ ? parsed_.payload_bytes - payload_.size() : header_bytes_ - header_.size();
}

inline Status FrameDecoder::finish() const {
  if (!failed_.ok()) return failed_;
  if (ready_ || header_.empty()) return {};
  return fail(ErrorCode::kIncomplete,
              "the stream ends after " + std::to_string(header_.size() + payload_.size()) +
                  " bytes of a frame, " + std::to_string(wanted()) + " or more are missing");
}

// Appends to `to`, up to `size` bytes in all. A vector that grows with what arrived, not a reserve
// of what was announced: a peer has to send bytes to make this end hold memory.
inline std::size_t FrameDecoder::fill(std::vector<std::uint8_t>& to, std::size_t size,
                                      Bytes bytes) const {
  const std::size_t count = std::min(size - to.size(), bytes.size());
  to.insert(to.end(), bytes.begin(), bytes.begin() + count);
  return count;
}

// What can be said before the header is whole: a stream of something else is refused at its fourth
// byte.
inline Status FrameDecoder::check_prefix() {
  if (header_.size() >= kMagic.size() &&
      !std::equal(kMagic.begin(), kMagic.end(), header_.begin())) {
    return fail(ErrorCode::kMalformed, "no frame here: the magic bytes are not \"KVFY\"");
  }
  return {};
}

inline Status FrameDecoder::check_header() {
  KVFERRY_TRY(check_prefix());
  ByteReader in(header_);
  in.raw(kMagic.size());
  const std::uint8_t version = in.u8();
  if (version != kVersion) {
    return fail(ErrorCode::kUnsupported, "frame version " + std::to_string(version) +
                                             "; this end speaks version " +
                                             std::to_string(kVersion));
  }
  const std::uint8_t type = in.u8();
  parsed_.type = static_cast<MessageType>(type);
  parsed_.flags = in.u16();
  parsed_.address.handoff = in.u64();
  parsed_.address.epoch = in.u32();
  parsed_.address.source = in.u16();
  const std::uint16_t header_bytes = in.u16();
  if (header_bytes < kHeaderBytes || header_bytes > kMaxHeaderBytes || header_bytes % 8 != 0) {
    return fail(ErrorCode::kMalformed, "header length " + std::to_string(header_bytes) +
                                           " is not a multiple of 8 in [48, 256]");
  }
  if (header_bytes > header_.size()) {  // of a later revision: take the rest first
    header_bytes_ = header_bytes;
    return {};
  }
  parsed_.payload_bytes = in.u32();
  const std::uint32_t reserved = in.u32();
  parsed_.payload_hash = in.u64();

  const Bytes checked = Bytes(header_).first(header_.size() - sizeof(std::uint64_t));
  ByteReader checksum(Bytes(header_).subspan(checked.size()));
  if (checksum.u64() != hash64(checked)) {
    return fail(ErrorCode::kChecksum, "the header does not match its checksum");
  }
  const char* name = wire::name_of(parsed_.type);
  if (name == nullptr) {
    return fail(ErrorCode::kUnsupported, "message type " + std::to_string(type) + " is not known");
  }
  for (int bit = 0; bit < 16; ++bit) {
    if (parsed_.flags & kRequiredFlags & (1u << bit)) {
      return fail(ErrorCode::kUnsupported, std::string(name) + " needs flag bit " +
                                               std::to_string(bit) +
                                               " to be understood; this end does not know it");
    }
  }
  if (reserved != 0) {
    return fail(ErrorCode::kMalformed, std::string(name) + ": reserved header bytes are not zero");
  }
  if (parsed_.payload_bytes > max_payload_) {
    return fail(ErrorCode::kResourceExhausted,
                std::string(name) + " with a payload of " + std::to_string(parsed_.payload_bytes) +
                    " bytes; this end takes at most " + std::to_string(max_payload_));
  }
  KVFERRY_TRY(check_address(name));
  header_done_ = true;
  return {};
}

inline Status FrameDecoder::check_address(const char* name) const {
  const FrameAddress& address = parsed_.address;
  if (address.handoff == 0 && belongs_to_handoff(parsed_.type)) {
    return fail(ErrorCode::kMalformed, std::string(name) + " names no handoff");
  }
  if (address.handoff != 0 && belongs_to_connection(parsed_.type)) {
    return fail(ErrorCode::kMalformed, std::string(name) + " names handoff " +
                                           std::to_string(address.handoff) +
                                           " but belongs to the connection");
  }
  if ((address.handoff == 0) != (address.epoch == 0) ||
      (address.handoff == 0) != (address.source == 0)) {
    return fail(ErrorCode::kMalformed,
                std::string(name) + " of handoff " + std::to_string(address.handoff) +
                    " has epoch " + std::to_string(address.epoch) + " and source " +
                    std::to_string(address.source) +
                    "; all three are 0 for the connection, none is for a handoff");
  }
  return {};
}

inline Status FrameDecoder::check_payload() const {
  if (hash64(payload_) == parsed_.payload_hash) return {};
  return fail(ErrorCode::kChecksum, std::string(wire::name_of(parsed_.type)) + ": the payload of " +
                                        std::to_string(payload_.size()) +
                                        " bytes does not match its checksum");
}

inline Error FrameDecoder::fail(ErrorCode code, const std::string& what) const {
  return Error(code, "frame at byte " + std::to_string(frame_offset_) + ": " + what);
}

}  // namespace kvferry::wire
