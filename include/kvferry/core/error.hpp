// Errors: a code that programs act on and a message that people act on.
#pragma once

#include <cstdint>
#include <string>
#include <utility>

namespace kvferry {

// What went wrong, as a class. The numbers travel on the wire (docs/wire-format.md, ERROR message):
// never renumber, only append.
enum class ErrorCode : std::uint16_t {
  kInvalidArgument = 1,    // the caller passed something unusable
  kIo = 2,                 // a file, socket or device call failed
  kMalformed = 3,          // bytes that do not follow their format
  kUnsupported = 4,        // well formed, but this build or version cannot do it
  kMismatch = 5,           // model, geometry or generation differ between the two ends
  kChecksum = 6,           // content does not match its checksum or digest
  kIncomplete = 7,         // ended before everything declared was there
  kResourceExhausted = 8,  // a cap, a quota or memory is used up
  kTimeout = 9,            // a deadline passed
  kCancelled = 10,         // somebody asked to stop
  kClosed = 11,            // the peer closed the connection
  kProtocol = 12,          // a message that is not allowed in this state
  kNotFound = 13,          // a name, ticket or sequence that is not known
  kPermission = 14,        // not allowed to this peer
  kInternal = 15,          // a defect in this library
};

// "checksum", "timeout", …: stable names for logs and JSON.
inline const char* name_of(ErrorCode code) {
  switch (code) {
    case ErrorCode::kInvalidArgument:
      return "invalid_argument";
    case ErrorCode::kIo:
      return "io";
    case ErrorCode::kMalformed:
      return "malformed";
    case ErrorCode::kUnsupported:
      return "unsupported";
    case ErrorCode::kMismatch:
      return "mismatch";
    case ErrorCode::kChecksum:
      return "checksum";
    case ErrorCode::kIncomplete:
      return "incomplete";
    case ErrorCode::kResourceExhausted:
      return "resource_exhausted";
    case ErrorCode::kTimeout:
      return "timeout";
    case ErrorCode::kCancelled:
      return "cancelled";
    case ErrorCode::kClosed:
      return "closed";
    case ErrorCode::kProtocol:
      return "protocol";
    case ErrorCode::kNotFound:
      return "not_found";
    case ErrorCode::kPermission:
      return "permission";
    case ErrorCode::kInternal:
      return "internal";
  }
  return "unknown";
}

// The message says what was wrong, where (byte offset, layer, field) and what to do about it. It
// never holds secrets and is safe to send to a peer.
struct Error {
  ErrorCode code = ErrorCode::kInternal;
  std::string message;

  Error(ErrorCode c, std::string m) : code(c), message(std::move(m)) {}
};

}  // namespace kvferry
