#include "tcp_channel.hpp"

#include <algorithm>
#include <array>
#include <atomic>
#include <string>
#include <system_error>
#include <utility>

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>

namespace kvferry {
namespace detail {
namespace {

constexpr std::size_t kBuffersPerCall = 16;

// A peer that closes while its receive window is full does not make the socket writable or broken:
// only this event tells.
#ifdef POLLRDHUP
constexpr short kPollPeerClosed = POLLRDHUP;
#else
constexpr short kPollPeerClosed = 0;
#endif

bool is_end_of_stream(const std::error_code& error) {
  return error == asio::error::eof || error == asio::error::connection_reset ||
         error == asio::error::broken_pipe || error == asio::error::shut_down ||
         error == asio::error::not_connected || error == asio::error::connection_aborted;
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

}  // namespace

std::unique_ptr<Channel> make_tcp_channel(std::shared_ptr<asio::io_context> context,
                                          tcp::socket socket, std::string peer) {
  return std::make_unique<TcpChannel>(std::move(context), std::move(socket), std::move(peer));
}

}  // namespace detail
}  // namespace kvferry
