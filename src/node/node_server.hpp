// How a node listens and serves its connections.
#pragma once

#include <chrono>
#include <memory>
#include <string>
#include <utility>

#include "kvferry/handoff/connection.hpp"
#include "kvferry/node/connection_server.hpp"
#include "kvferry/node/node_options.hpp"
#include "kvferry/transport/tcp.hpp"

namespace kvferry {

inline Result<std::unique_ptr<Listener>> listen(const ServerOptions& options) {
  TcpListenOptions listen;
  listen.allow_public = options.allow_public;
  return listen_tcp(options.listen, Deadline::after(options.timeout), listen);
}

// Tells a connection that it is one too many, and waits a moment for the peer to have read it.
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

// Serves what connects to `listener`. `serve` and `log` are called from threads of the server.
inline std::unique_ptr<ConnectionServer> serve_connections(std::unique_ptr<Listener> listener,
                                                           const ServerOptions& options,
                                                           wire::Role role,
                                                           ConnectionServer::Handler serve,
                                                           const NodeLog& log) {
  const std::size_t most = options.max_connections;
  return std::make_unique<ConnectionServer>(
      std::move(listener), most, std::move(serve),
      [role, most, log](Channel& channel) { refuse_connection(channel, role, most, log); }, log);
}

}  // namespace kvferry
