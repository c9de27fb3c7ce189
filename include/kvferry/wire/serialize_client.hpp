// GENERATE, TICKET, ATTACH, TOKEN, DONE as bytes. Contract: wire/serialize.hpp.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "kvferry/wire/fields.hpp"
#include "kvferry/wire/messages.hpp"
#include "kvferry/wire/sampling_fields.hpp"

namespace kvferry::wire {

template <typename Io>
void fields(Io& io, Generate& m) {
  io.bytes("text", m.text, kMaxText);
  io.list("token_ids", m.token_ids, kMaxTokens, 4,
          [&](TokenId& id) { token_id(io, "token_ids", id); });
  std::uint64_t content_bytes = 0;
  io.list("messages", m.messages, kMaxMessages, 8, [&](ChatMessage& chat) {
    io.bytes("messages.role", chat.role, kMaxName);
    io.bytes("messages.content", chat.content, kMaxText);
    content_bytes += chat.content.size();
  });
  io.require(content_bytes <= kMaxText, "messages",
             "hold " + std::to_string(content_bytes) + " bytes of text together; at most " +
                 std::to_string(kMaxText) + " are allowed");
  const int given =
      (m.text.empty() ? 0 : 1) + (m.token_ids.empty() ? 0 : 1) + (m.messages.empty() ? 0 : 1);
  io.require(given == 1, "text",
             "is one of text, token_ids and messages, of which exactly one is given, not " +
                 std::to_string(given));
  fields(io, m.sampler);
  io.integer("max_tokens", m.max_tokens);
  io.boolean("ignore_eos", m.ignore_eos);
  stop_strings(io, m.stop);
}

template <typename Io>
void fields(Io& io, Ticket& m) {
  io.line("decode_address", m.decode_address, kMaxName);
  io.require(!m.decode_address.empty(), "decode_address", "is empty");
  io.identifier("ticket", m.ticket);
  io.integer("prompt_tokens", m.prompt_tokens);
}

template <typename Io>
void fields(Io& io, Attach& m) {
  io.identifier("ticket", m.ticket);
}

template <typename Io>
void fields(Io& io, Token& m) {
  io.integer("index", m.index);
  token_id(io, "token", m.token);
  io.utf8("text", m.text, kMaxTokenText);
}

template <typename Io>
void fields(Io& io, Done& m) {
  io.enumeration("reason", m.reason, FinishReason::kHandedOver);
  io.utf8("text", m.text, kMaxTokenText);
  io.list("report", m.report, kMaxReportEntries, 12, [&](std::pair<std::string, double>& entry) {
    io.line("report.name", entry.first, kMaxName);
    io.require(!entry.first.empty(), "report.name", "is empty");
    io.real("report.value", entry.second);
  });
}

inline Status serialize(const Generate& m, std::vector<std::uint8_t>& out) {
  return write_fields("GENERATE", m, out);
}
inline Status serialize(const Ticket& m, std::vector<std::uint8_t>& out) {
  return write_fields("TICKET", m, out);
}
inline Status serialize(const Attach& m, std::vector<std::uint8_t>& out) {
  return write_fields("ATTACH", m, out);
}
inline Status serialize(const Token& m, std::vector<std::uint8_t>& out) {
  return write_fields("TOKEN", m, out);
}
inline Status serialize(const Done& m, std::vector<std::uint8_t>& out) {
  return write_fields("DONE", m, out);
}

inline Result<Generate> parse_generate(Bytes payload) {
  return parse_fields<Generate>("GENERATE", payload);
}
inline Result<Ticket> parse_ticket(Bytes payload) {
  return parse_fields<Ticket>("TICKET", payload);
}
inline Result<Attach> parse_attach(Bytes payload) {
  return parse_fields<Attach>("ATTACH", payload);
}
inline Result<Token> parse_token(Bytes payload) {
  return parse_fields<Token>("TOKEN", payload);
}
inline Result<Done> parse_done(Bytes payload) {
  return parse_fields<Done>("DONE", payload);
}

}  // namespace kvferry::wire
