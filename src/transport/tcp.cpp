#include "kvferry/transport/tcp.hpp"

#include <array>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <memory>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include <poll.h>
#include <sys/socket.h>

#include "kvferry/transport/url.hpp"

#include "resolve.hpp"
#include "tcp_channel.hpp"
#include "tcp_socket.hpp"

namespace kvferry {
namespace {

using detail::resolve;
using detail::shared_context;
using detail::tcp;
using detail::url_of;
using detail::wait_for;
using detail::would_block;

Result<Url> parse_tcp_url(const std::string& text) {
  KVFERRY_ASSIGN(Url url, parse_url(text));
  if (url.scheme != "tcp") {
    return Error(ErrorCode::kInvalidArgument,
                 "address '" + text + "': the scheme is not tcp; write it as tcp://host:port");
  }
  return url;
}

Result<std::unique_ptr<Channel>> connect_to(const tcp::endpoint& endpoint, Deadline deadline,
                                            const Cancelled& cancelled) {
  const std::string name = url_of(endpoint);
  const auto io_error = [&name](const std::string& why) {
    return Error(ErrorCode::kIo, "cannot connect to " + name + ": " + why);
  };
  auto context = shared_context();
  tcp::socket socket(*context);
  std::error_code error;
  socket.open(endpoint.protocol(), error);
  if (!error) socket.non_blocking(true, error);
  if (error) return io_error(error.message());
  // Asio's own connect() would wait without a deadline.
  if (::connect(socket.native_handle(), endpoint.data(), static_cast<socklen_t>(endpoint.size())) !=
      0) {
    if (errno != EINPROGRESS && errno != EINTR) return io_error(std::strerror(errno));
    KVFERRY_ASSIGN(const bool ready,
                   wait_for(socket.native_handle(), POLLOUT, deadline, cancelled));
    if (!ready) return Error(ErrorCode::kTimeout, name + " did not answer before the deadline");
    int result = 0;
    socklen_t length = sizeof result;
    if (::getsockopt(socket.native_handle(), SOL_SOCKET, SO_ERROR, &result, &length) != 0) {
      result = errno;
    }
    if (result != 0) return io_error(std::strerror(result));
  }
  return detail::make_tcp_channel(std::move(context), std::move(socket), name);
}

Result<std::unique_ptr<Channel>> connect_to(const Url& url, Deadline deadline,
                                            const Cancelled& cancelled = {}) {
  if (url.port == 0) {
    return Error(ErrorCode::kInvalidArgument,
                 "cannot connect to " + to_string(url) + ": port 0 is only for listening");
  }
  KVFERRY_ASSIGN(const std::vector<tcp::endpoint> endpoints, resolve(url, deadline, cancelled));
  Error last(ErrorCode::kTimeout, "no time left to connect to " + to_string(url));
  for (std::size_t i = 0; i < endpoints.size(); ++i) {
    const auto share = deadline.remaining() / static_cast<int>(endpoints.size() - i);
    auto channel = connect_to(endpoints[i], Deadline::after(share), cancelled);
    if (channel.ok() || channel.error().code == ErrorCode::kCancelled) return channel;
    last = channel.error();
  }
  return last;
}

class TcpListener final : public Listener {
 public:
  TcpListener(std::shared_ptr<asio::io_context> context, tcp::acceptor acceptor,
              asio::local::stream_protocol::socket wake_reader,
              asio::local::stream_protocol::socket wake_writer, std::string address)
      : context_(std::move(context)),
        acceptor_(std::move(acceptor)),
        wake_reader_(std::move(wake_reader)),
        wake_writer_(std::move(wake_writer)),
        address_(std::move(address)) {}
  ~TcpListener() override { close(); }
  TcpListener(const TcpListener&) = delete;
  TcpListener& operator=(const TcpListener&) = delete;

  Result<std::unique_ptr<Channel>> accept(Deadline deadline) override {
    for (;;) {
      std::array<pollfd, 2> descriptors = {
          {{acceptor_.native_handle(), POLLIN, 0}, {wake_reader_.native_handle(), POLLIN, 0}}};
      KVFERRY_ASSIGN(const bool ready, wait_for(Span<pollfd>(descriptors), deadline));
      if (closed_) return Error(ErrorCode::kClosed, "the listener at " + address_ + " is closed");
      if (!ready) {
        return Error(ErrorCode::kTimeout,
                     "nobody connected to " + address_ + " before the deadline");
      }
      auto context = shared_context();
      tcp::socket socket(*context);
      tcp::endpoint from;
      std::error_code error;
      acceptor_.accept(socket, from, error);
      if (!error) socket.non_blocking(true, error);
      if (!error) {
        return detail::make_tcp_channel(std::move(context), std::move(socket), url_of(from));
      }
      if (error == asio::error::no_descriptors || error == asio::error::no_memory ||
          error == asio::error::no_buffer_space ||
          error == std::errc::too_many_files_open_in_system) {
        return Error(ErrorCode::kResourceExhausted,
                     "cannot accept at " + address_ + ": " + error.message());
      }
      if (would_block(error) || error == asio::error::connection_aborted ||
          error == asio::error::interrupted) {
        continue;  // it was gone before it was taken
      }
      return Error(ErrorCode::kIo, "cannot accept at " + address_ + ": " + error.message());
    }
  }

  void close() noexcept override {
    if (closed_.exchange(true)) return;
    std::error_code ignored;
    wake_writer_.shutdown(asio::socket_base::shutdown_both, ignored);
  }

  std::string address() const override { return address_; }

 private:
  std::shared_ptr<asio::io_context> context_;
  tcp::acceptor acceptor_;
  asio::local::stream_protocol::socket wake_reader_;  // readable once the listener is closed
  asio::local::stream_protocol::socket wake_writer_;
  std::string address_;
  std::atomic<bool> closed_{false};
};

class TcpConnector final : public Connector {
 public:
  explicit TcpConnector(Url url) : url_(std::move(url)) {}
  Result<std::unique_ptr<Channel>> connect(Deadline deadline) override {
    return connect_to(url_, deadline);
  }

 private:
  Url url_;
};

Result<std::unique_ptr<Listener>> listen_at(const tcp::endpoint& endpoint, int backlog) {
  auto context = shared_context();
  tcp::acceptor acceptor(*context);
  asio::local::stream_protocol::socket wake_reader(*context);
  asio::local::stream_protocol::socket wake_writer(*context);
  std::error_code error;
  acceptor.open(endpoint.protocol(), error);
  if (!error) acceptor.set_option(tcp::acceptor::reuse_address(true), error);
  if (!error) acceptor.non_blocking(true, error);
  if (!error) acceptor.bind(endpoint, error);
  if (!error) acceptor.listen(backlog, error);
  if (!error) asio::local::connect_pair(wake_reader, wake_writer, error);
  tcp::endpoint actual;
  if (!error) actual = acceptor.local_endpoint(error);
  if (error) {
    return Error(ErrorCode::kIo, "cannot listen at " + url_of(endpoint) + ": " + error.message());
  }
  return std::unique_ptr<Listener>(
      std::make_unique<TcpListener>(std::move(context), std::move(acceptor), std::move(wake_reader),
                                    std::move(wake_writer), url_of(actual)));
}

}  // namespace

Result<std::unique_ptr<Listener>> listen_tcp(const std::string& text, Deadline deadline,
                                             const TcpListenOptions& options) {
  KVFERRY_ASSIGN(const Url url, parse_tcp_url(text));
  KVFERRY_ASSIGN(const std::vector<tcp::endpoint> endpoints, resolve(url, deadline));
  if (!options.allow_public) {
    for (const tcp::endpoint& endpoint : endpoints) {
      if (endpoint.address().is_loopback()) continue;
      return Error(ErrorCode::kPermission,
                   "refusing to listen at " + url_of(endpoint) +
                       ": it is not a loopback address, and whoever reaches it could use it; "
                       "listen at 127.0.0.1, or allow public addresses explicitly");
    }
  }
  Error last(ErrorCode::kInternal, "no endpoint to listen at");
  for (const tcp::endpoint& endpoint : endpoints) {
    auto listener = listen_at(endpoint, options.backlog);
    if (listener.ok()) return listener;
    last = listener.error();
  }
  return last;
}

Result<std::unique_ptr<Channel>> connect_tcp(const std::string& text, Deadline deadline,
                                             const Cancelled& cancelled) {
  KVFERRY_ASSIGN(const Url url, parse_tcp_url(text));
  return connect_to(url, deadline, cancelled);
}

Result<std::unique_ptr<Connector>> tcp_connector(const std::string& text) {
  KVFERRY_ASSIGN(Url url, parse_tcp_url(text));
  return std::unique_ptr<Connector>(std::make_unique<TcpConnector>(std::move(url)));
}

}  // namespace kvferry
