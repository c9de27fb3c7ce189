// What the TCP sources share: Asio's sockets, and waiting for them.
//
// Sockets are non-blocking and a thread waits with poll(2) itself: full duplex with deadlines and
// without a thread hop per call. Asio documents that synchronous sends, receives and shutdowns of
// one socket may run at the same time.
#pragma once

// No handler ever runs in Asio's context, so its fences fence nothing, and ThreadSanitizer does not
// know them.
#define ASIO_DISABLE_FENCED_BLOCK 1

#include <algorithm>
#include <cerrno>
#include <climits>
#include <cstring>
#include <memory>
#include <string>
#include <system_error>

#include <asio.hpp>
#include <poll.h>

#include "kvferry/core/deadline.hpp"
#include "kvferry/core/result.hpp"
#include "kvferry/core/span.hpp"
#include "kvferry/transport/url.hpp"

namespace kvferry {
namespace detail {

using asio::ip::tcp;

// Waits until `events` or an error condition shows at one of the descriptors, or the deadline.
// Returns false at the deadline.
inline Result<bool> wait_for(Span<pollfd> descriptors, Deadline deadline) {
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

inline Result<bool> wait_for(int descriptor, short events, Deadline deadline,
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
inline std::shared_ptr<asio::io_context> shared_context() {
  static const auto context = std::make_shared<asio::io_context>();
  return context;
}

inline bool would_block(const std::error_code& error) {
  return error == asio::error::would_block || error == asio::error::try_again;
}

inline std::string url_of(const tcp::endpoint& endpoint) {
  return to_string(Url{"tcp", endpoint.address().to_string(), endpoint.port()});
}

}  // namespace detail
}  // namespace kvferry
