// No handler ever runs in Asio's context, so its fences fence nothing, and ThreadSanitizer does not
// know them.
#define ASIO_DISABLE_FENCED_BLOCK 1

#include "kvferry/transport/tcp.hpp"

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <climits>
#include <condition_variable>
#include <cstring>
#include <memory>
#include <mutex>
#include <string>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#include <asio.hpp>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>

#include "kvferry/transport/url.hpp"

// Sockets are non-blocking and a thread waits with poll(2) itself: full duplex with deadlines and
// without a thread hop per call. Asio documents that synchronous sends, receives and shutdowns of
// one socket may run at the same time.

namespace kvferry {
namespace {

using asio::ip::tcp;

constexpr std::size_t kBuffersPerCall = 16;

// A peer that closes while its receive window is full does not make the socket writable or broken:
// only this event tells.
#ifdef POLLRDHUP
constexpr short kPollPeerClosed = POLLRDHUP;
#else
constexpr short kPollPeerClosed = 0;
#endif

// Waits until `events` or an error condition shows at one of the descriptors, or the deadline.
// Returns false at the deadline.
Result<bool> wait_for(Span<pollfd> descriptors, Deadline deadline) {
  for (;;) {
    const auto left = deadline.remaining().count();
    const int timeout = static_cast<int>(std::min<decltype(left)>(left, INT_MAX));
    const int ready = ::poll(descriptors.data(), descriptors.size(), timeout);
    if (ready > 0) return true;
    if (ready < 0 && errno != EINTR) {
      return Error(ErrorCode::kIo, std::string("tcp: poll failed: ") + std::strerror(errno));
    }
    if (deadline.expired()) return false;
  }
}

Result<bool> wait_for(int descriptor, short events, Deadline deadline,
                      const Cancelled& cancelled = {}) {
  pollfd one{descriptor, events, 0};
  if (!cancelled) return wait_for(Span<pollfd>(&one, 1), deadline);
  for (;;) {
    if (cancelled()) return Error(ErrorCode::kCancelled, "cancelled");
    KVFERRY_ASSIGN(const bool ready,
                   wait_for(Span<pollfd>(&one, 1), deadline.at_most(kCancelPoll)));
    if (ready || deadline.expired()) return ready;
  }
}

// Asio's sockets want a context. Nothing ever runs in it, so all share one, which lives as long as
// the last socket.
std::shared_ptr<asio::io_context> shared_context() {
  static const auto context = std::make_shared<asio::io_context>();
  return context;
}

bool would_block(const std::error_code& error) {
  return error == asio::error::would_block || error == asio::error::try_again;
}

bool is_end_of_stream(const std::error_code& error) {
  return error == asio::error::eof || error == asio::error::connection_reset ||
         error == asio::error::broken_pipe || error == asio::error::shut_down ||
         error == asio::error::not_connected || error == asio::error::connection_aborted;
}

std::string url_of(const tcp::endpoint& endpoint) {
  return to_string(Url{"tcp", endpoint.address().to_string(), endpoint.port()});
}

// Finds a dead peer within about a minute, even when nobody sends or waits.
void set_options(tcp::socket& socket) {
  std::error_code ignored;  // a connection without these options is still a connection
  socket.set_option(tcp::no_delay(true), ignored);
  socket.set_option(asio::socket_base::keep_alive(true), ignored);
#ifdef TCP_KEEPIDLE
  const auto set = [&socket](int name, int value) {
    ::setsockopt(socket.native_handle(), IPPROTO_TCP, name, &value, sizeof value);
  };
  set(TCP_KEEPIDLE, 30);
  set(TCP_KEEPINTVL, 10);
  set(TCP_KEEPCNT, 3);
#endif
}

class TcpChannel final : public Channel {
 public:
  TcpChannel(std::shared_ptr<asio::io_context> context, tcp::socket socket, std::string peer)
      : context_(std::move(context)), socket_(std::move(socket)), peer_(std::move(peer)) {
    set_options(socket_);
  }
  ~TcpChannel() override {
    close();
    std::error_code ignored;
    socket_.close(ignored);
  }
  TcpChannel(const TcpChannel&) = delete;
  TcpChannel& operator=(const TcpChannel&) = delete;

  Status send(Span<const Bytes> buffers, Deadline deadline) override {
    if (std::all_of(buffers.begin(), buffers.end(), [](Bytes b) { return b.empty(); })) return {};
    if (send_failed_) return closed("an earlier send failed");
    Status status = send_buffers(buffers, deadline);
    send_failed_ = !status.ok();
    return status;
  }

  Result<std::size_t> receive(MutableBytes buffer, Deadline deadline) override {
    if (buffer.empty()) return std::size_t{0};
    for (;;) {
      if (closed_) return closed("closed by this end");
      std::error_code error;
      const std::size_t count =
          socket_.read_some(asio::buffer(buffer.data(), buffer.size()), error);
      if (closed_) return closed("closed by this end");
      if (!error) return count;
      if (!would_block(error)) return failed("receive", error);
      KVFERRY_ASSIGN(const bool ready, wait_for(socket_.native_handle(), POLLIN, deadline));
      if (!ready) {
        return Error(ErrorCode::kTimeout, "nothing came from " + peer_ + " before the deadline");
      }
    }
  }

  // Only shuts down: the descriptor stays this object's until no call can be using it.
  void close() noexcept override {
    closed_ = true;
    std::error_code ignored;
    socket_.shutdown(tcp::socket::shutdown_both, ignored);
  }

  std::string peer() const override { return peer_; }

 private:
  Status send_buffers(Span<const Bytes> buffers, Deadline deadline) {
    std::size_t index = 0;   // first buffer that is not sent wholly
    std::size_t offset = 0;  // bytes of it that are sent
    for (;;) {
      std::array<asio::const_buffer, kBuffersPerCall> batch;
      std::size_t batched = 0;
      for (std::size_t i = index; i < buffers.size() && batched < batch.size(); ++i) {
        const Bytes rest = i == index ? buffers[i].subspan(offset) : buffers[i];
        if (!rest.empty()) batch[batched++] = asio::const_buffer(rest.data(), rest.size());
      }
      if (batched == 0) return {};
      if (closed_) return closed("closed by this end");
      std::error_code error;
      std::size_t sent = socket_.write_some(batch, error);
      if (error) {
        if (!would_block(error)) return failed("send", error);
        pollfd descriptor{socket_.native_handle(), POLLOUT | kPollPeerClosed, 0};
        KVFERRY_ASSIGN(const bool ready, wait_for(Span<pollfd>(&descriptor, 1), deadline));
        if ((descriptor.revents & kPollPeerClosed) != 0) return closed("the peer closed it");
        if (!ready) {
          return Error(ErrorCode::kTimeout, peer_ + " did not take the data before the deadline");
        }
        continue;
      }
      while (index < buffers.size() && sent >= buffers[index].size() - offset) {
        sent -= buffers[index].size() - offset;
        ++index;
        offset = 0;
      }
      offset += sent;
    }
  }

  Error closed(const char* how) const {
    return Error(ErrorCode::kClosed, "the connection to " + peer_ + " is closed: " + how);
  }
  Error failed(const char* what, const std::error_code& error) const {
    if (closed_) return closed("closed by this end");
    if (is_end_of_stream(error)) {
      return closed(error == asio::error::eof ? "the peer closed it" : error.message().c_str());
    }
    return Error(ErrorCode::kIo,
                 std::string("tcp: ") + what + " with " + peer_ + ": " + error.message());
  }

  std::shared_ptr<asio::io_context> context_;
  tcp::socket socket_;
  std::string peer_;
  std::atomic<bool> closed_{false};
  std::atomic<bool> send_failed_{false};
};

// getaddrinfo() knows no deadline, so it runs in a thread of its own, which is left behind when it
// takes too long; what it shares with us is kept alive by both.
struct Resolution {
  std::mutex mutex;
  std::condition_variable done_changed;
  bool done = false;
  std::error_code error;
  std::vector<tcp::endpoint> endpoints;
};

void resolve_into(Resolution& resolution, const Url& url) {
  asio::io_context context;
  tcp::resolver resolver(context);
  std::error_code error;
  const auto found = resolver.resolve(url.host, std::to_string(url.port),
                                      asio::ip::resolver_base::numeric_service, error);
  const std::lock_guard<std::mutex> lock(resolution.mutex);
  resolution.error = error;
  for (const auto& entry : found) resolution.endpoints.push_back(entry.endpoint());
  resolution.done = true;
  resolution.done_changed.notify_all();
}

// All endpoints that `url` stands for, at least one.
Result<std::vector<tcp::endpoint>> resolve(const Url& url, Deadline deadline,
                                           const Cancelled& cancelled = {}) {
  std::error_code error;
  const asio::ip::address literal = asio::ip::make_address(url.host, error);
  if (!error) return std::vector<tcp::endpoint>{tcp::endpoint(literal, url.port)};

  const auto resolution = std::make_shared<Resolution>();
  try {
    std::thread([resolution, url] { resolve_into(*resolution, url); }).detach();
  } catch (const std::system_error& e) {
    return Error(ErrorCode::kResourceExhausted,
                 std::string("tcp: no thread to look up a host name: ") + e.what());
  }
  std::unique_lock<std::mutex> lock(resolution->mutex);
  const auto done = [&] { return resolution->done; };
  while (!resolution->done_changed.wait_until(lock, deadline.at_most(kCancelPoll).time(), done)) {
    if (cancelled && cancelled()) return Error(ErrorCode::kCancelled, "cancelled");
    if (deadline.expired()) {
      return Error(ErrorCode::kTimeout, "looking up the host '" + url.host + "' takes too long");
    }
  }
  if (resolution->error || resolution->endpoints.empty()) {
    return Error(ErrorCode::kNotFound,
                 "cannot find the host '" + url.host + "': " +
                     (resolution->error ? resolution->error.message() : std::string("no address")));
  }
  return resolution->endpoints;
}

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
  return std::unique_ptr<Channel>(
      std::make_unique<TcpChannel>(std::move(context), std::move(socket), name));
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
        return std::unique_ptr<Channel>(
            std::make_unique<TcpChannel>(std::move(context), std::move(socket), url_of(from)));
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
