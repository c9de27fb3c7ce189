// TCP: listen, connect. Part of kvferry::net. TCP neither hides nor authenticates what it carries.
#pragma once

#include <memory>
#include <string>

#include "kvferry/transport/channel.hpp"

namespace kvferry {

struct TcpListenOptions {
  // Without it only loopback addresses are listened on: anyone who can reach a plain TCP port can
  // use it.
  bool allow_public = false;
  int backlog = 64;  // connections that wait to be accepted
};

// Listens at `url` ("tcp://127.0.0.1:0"; port 0 takes any free one, address() tells which). A name
// that stands for several addresses is bound at the first one that works. Errors: kPermission for
// an address that is not loopback without allow_public, kInvalidArgument, kNotFound, kIo.
Result<std::unique_ptr<Listener>> listen_tcp(const std::string& url, Deadline deadline,
                                             const TcpListenOptions& options = {});

// Connects to `url`. All addresses of a name are tried in turn, each with its share of the time
// left. Errors: those of Connector::connect, kInvalidArgument, and kCancelled.
Result<std::unique_ptr<Channel>> connect_tcp(const std::string& url, Deadline deadline,
                                             const Cancelled& cancelled = {});

// connect_tcp() with its address, as a Connector. Error kInvalidArgument for an unusable address.
Result<std::unique_ptr<Connector>> tcp_connector(const std::string& url);

}  // namespace kvferry
