// Messages as payload bytes and back:
//
//   Status serialize(const X& message, std::vector<std::uint8_t>& out);   // appends
//   Result<X> parse_x(Bytes payload);                                     // hello, offer, block, …
//
// What parses serializes to the same bytes again. serialize() refuses with kInvalidArgument what a
// parser would refuse; parse_x() refuses with kMalformed, naming message, field and byte offset.
// docs/wire-format.md is the authority on the layout.
#pragma once

#include "kvferry/wire/serialize_client.hpp"
#include "kvferry/wire/serialize_connection.hpp"
#include "kvferry/wire/serialize_handoff.hpp"
