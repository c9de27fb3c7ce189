// HELLO, PING, PONG, ERROR, GOODBYE as bytes. Contract: wire/serialize.hpp.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "kvferry/wire/fields.hpp"
#include "kvferry/wire/messages.hpp"

namespace kvferry::wire {

template <typename Io>
void fields(Io& io, Hello& m) {
  io.integer("min_version", m.min_version);
  io.integer("max_version", m.max_version);
  io.require(m.min_version >= 1 && m.min_version <= m.max_version, "min_version",
             "is 0 or above max_version");
  io.integer("optional_features", m.optional_features);
  io.integer("required_features", m.required_features);
  io.enumeration("role", m.role, Role::kTool);
  io.integer("max_payload", m.max_payload);
  io.require(m.max_payload >= kMinMaxPayload, "max_payload",
             "is " + std::to_string(m.max_payload) + "; every end takes payloads of " +
                 std::to_string(kMinMaxPayload) + " bytes");
  io.integer("clock_ns", m.clock_ns);
  io.line("agent", m.agent, kMaxName);
}

template <typename Io>
void fields(Io& io, Ping& m) {
  io.integer("nonce", m.nonce);
  io.integer("clock_ns", m.clock_ns);
}

template <typename Io>
void fields(Io& io, Pong& m) {
  io.integer("nonce", m.nonce);
  io.integer("ping_clock_ns", m.ping_clock_ns);
  io.integer("clock_ns", m.clock_ns);
}

// Any code but 0 is taken: a later revision may append some, and its errors have to arrive.
template <typename Io>
void error_code(Io& io, ErrorCode& code) {
  auto number = static_cast<std::uint16_t>(code);
  io.integer("code", number);
  io.require(number != 0, "code", "is 0, which is no error");
  code = static_cast<ErrorCode>(number);
}

template <typename Io>
void fields(Io& io, ErrorMessage& m) {
  error_code(io, m.code);
  io.line("text", m.text, kMaxErrorText);
}

template <typename Io>
void fields(Io&, Goodbye&) {}

inline Status serialize(const Hello& m, std::vector<std::uint8_t>& out) {
  return write_fields("HELLO", m, out);
}
inline Status serialize(const Ping& m, std::vector<std::uint8_t>& out) {
  return write_fields("PING", m, out);
}
inline Status serialize(const Pong& m, std::vector<std::uint8_t>& out) {
  return write_fields("PONG", m, out);
}
inline Status serialize(const ErrorMessage& m, std::vector<std::uint8_t>& out) {
  return write_fields("ERROR", m, out);
}
inline Status serialize(const Goodbye& m, std::vector<std::uint8_t>& out) {
  return write_fields("GOODBYE", m, out);
}

inline Result<Hello> parse_hello(Bytes payload) {
  return parse_fields<Hello>("HELLO", payload);
}
inline Result<Ping> parse_ping(Bytes payload) {
  return parse_fields<Ping>("PING", payload);
}
inline Result<Pong> parse_pong(Bytes payload) {
  return parse_fields<Pong>("PONG", payload);
}
inline Result<ErrorMessage> parse_error(Bytes payload) {
  return parse_fields<ErrorMessage>("ERROR", payload);
}
inline Result<Goodbye> parse_goodbye(Bytes payload) {
  return parse_fields<Goodbye>("GOODBYE", payload);
}

// An error as a message that always serializes: its text becomes a line within the cap, so that
// telling the peer never fails for what the text holds.
inline ErrorMessage to_message(const Error& error) {
  return ErrorMessage{error.code, as_line(error.message, kMaxErrorText)};
}

}  // namespace kvferry::wire
