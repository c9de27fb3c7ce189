// A TCP connection as a Channel.
#pragma once

#include <memory>
#include <string>

#include "kvferry/transport/channel.hpp"

#include "tcp_socket.hpp"

namespace kvferry {
namespace detail {

// `socket` is connected and non-blocking, and of `context`; `peer` is its other end's address.
std::unique_ptr<Channel> make_tcp_channel(std::shared_ptr<asio::io_context> context,
                                          tcp::socket socket, std::string peer);

}  // namespace detail
}  // namespace kvferry
