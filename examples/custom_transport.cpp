// A transport of your own, and the proof that it is one: Channel over a pair of Unix sockets, run
// through the library's conformance test. Hand-offs then work over it like over TCP.
#include <algorithm>
#include <atomic>
#include <cerrno>
#include <climits>
#include <cstdio>
#include <cstring>
#include <memory>
#include <string>

#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "kvferry/testing/channel_conformance.hpp"
#include "kvferry/transport/channel.hpp"

namespace {

using kvferry::Bytes;
using kvferry::ChannelPair;
using kvferry::Deadline;
using kvferry::Error;
using kvferry::ErrorCode;
using kvferry::MutableBytes;
using kvferry::Result;
using kvferry::Span;
using kvferry::Status;

class UnixChannel final : public kvferry::Channel {
 public:
  // Takes the descriptor of a connected stream socket.
  explicit UnixChannel(int socket) : socket_(socket) {}
  ~UnixChannel() override {
    close();
    ::close(socket_);
  }
  UnixChannel(const UnixChannel&) = delete;
  UnixChannel& operator=(const UnixChannel&) = delete;

  Status send(Span<const Bytes> buffers, Deadline deadline) override {
    for (Bytes rest : buffers) {
      while (!rest.empty()) {
        if (closed_ || send_failed_) return closed();
        const ssize_t sent = ::send(socket_, rest.data(), rest.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
        Status status = sent >= 0 ? Status() : wait_after_error(POLLOUT, deadline);
        if (!status.ok()) {
          send_failed_ = true;  // the contract: nobody knows how much of it was sent
          return status;
        }
        if (sent > 0) rest = rest.subspan(static_cast<std::size_t>(sent));
      }
    }
    return {};
  }

  Result<std::size_t> receive(MutableBytes buffer, Deadline deadline) override {
    if (buffer.empty()) return std::size_t{0};
    for (;;) {
      if (closed_) return closed();
      const ssize_t received = ::recv(socket_, buffer.data(), buffer.size(), MSG_DONTWAIT);
      if (closed_ || received == 0) return closed();
      if (received > 0) return static_cast<std::size_t>(received);
      KVFERRY_TRY(wait_after_error(POLLIN, deadline));
    }
  }

  // Wakes both ends. The descriptor stays ours until the destructor, so that no other thread can
  // be left using one that has a new owner.
  void close() noexcept override {
    closed_ = true;
    ::shutdown(socket_, SHUT_RDWR);
  }

  std::string peer() const override { return "unix socket " + std::to_string(socket_); }

 private:
  // Waits when the call only has to wait; else says what went wrong.
  Status wait_after_error(short events, Deadline deadline) const {
    if (errno == EPIPE || errno == ECONNRESET) return closed();
    if (errno != EAGAIN && errno != EINTR) {
      return Error(ErrorCode::kIo, peer() + ": " + std::strerror(errno));
    }
    if (deadline.expired()) return Error(ErrorCode::kTimeout, peer() + ": the deadline passed");
    pollfd descriptor{socket_, events, 0};
    const auto left = std::min<long long>(deadline.remaining().count(), INT_MAX);
    ::poll(&descriptor, 1, static_cast<int>(left));
    return {};  // ready or not, the next attempt tells
  }
  Error closed() const { return Error(ErrorCode::kClosed, peer() + " is closed"); }

  const int socket_;
  std::atomic<bool> closed_{false};
  std::atomic<bool> send_failed_{false};
};

Result<ChannelPair> make_pair() {
  int sockets[2];
  if (::socketpair(AF_UNIX, SOCK_STREAM, 0, sockets) != 0) {
    return Error(ErrorCode::kIo, std::string("socketpair: ") + std::strerror(errno));
  }
  ChannelPair pair;
  pair.first = std::make_unique<UnixChannel>(sockets[0]);
  pair.second = std::make_unique<UnixChannel>(sockets[1]);
  return pair;
}

}  // namespace

int main() {
  bool passed = true;
  for (const auto& check : kvferry::testing::check_channel(make_pair)) {
    std::printf("%-6s %s\n", check.problems.empty() ? "ok" : "FAILED", check.name.c_str());
    for (const std::string& problem : check.problems) std::printf("       %s\n", problem.c_str());
    passed = passed && check.problems.empty();
  }
  return passed ? 0 : 1;
}
