// What a node tells a connection that is one too many.
#pragma once

#include <chrono>
#include <string>

#include "kvferry/handoff/connection.hpp"
#include "kvferry/node/node_options.hpp"

namespace kvferry {

// Greets, says why, and waits a moment for the peer to have read it.
inline void refuse_connection(Channel& channel, wire::Role role, std::size_t max_connections,
                              const NodeLog& log) {
  Connection connection(channel);
  const Error error(ErrorCode::kResourceExhausted, "as many connections as it takes (" +
                                                       std::to_string(max_connections) +
                                                       ") are open; try again later");
  log("refused " + connection.peer() + ": " + error.message);
  const Deadline deadline = Deadline::after(std::chrono::seconds(1));
  if (!connection.greet(role, deadline).ok()) return;
  connection.send_error(error, deadline);
  // Closing on bytes that were not read would take the message back.
  while (connection.receive(deadline).ok()) continue;
}

}  // namespace kvferry
