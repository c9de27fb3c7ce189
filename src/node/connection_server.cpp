#include "kvferry/node/connection_server.hpp"

#include <chrono>
#include <utility>

namespace kvferry {
namespace {
// How often finished threads are joined while nobody connects, and the pause after an accept that
// failed for want of descriptors.
constexpr std::chrono::milliseconds kReapInterval{500};
constexpr std::chrono::milliseconds kRetryPause{50};
}  // namespace

ConnectionServer::ConnectionServer(std::unique_ptr<Listener> listener, std::size_t max_connections,
                                   Handler handler)
    : listener_(std::move(listener)),
      max_connections_(max_connections),
      handler_(std::move(handler)),
      accepting_([this] { accept_loop(); }) {}

void ConnectionServer::stop() {
  listener_->close();
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    stopping_ = true;
    for (Connection& connection : connections_) connection.channel->close();
  }
  if (accepting_.joinable()) accepting_.join();
  for (Connection& connection : connections_) {
    if (connection.thread.joinable()) connection.thread.join();
  }
  connections_.clear();
}

void ConnectionServer::accept_loop() {
  for (;;) {
    auto channel = listener_->accept(Deadline::after(kReapInterval));
    reap();
    if (!channel.ok()) {
      if (channel.error().code == ErrorCode::kClosed) return;
      if (channel.error().code != ErrorCode::kTimeout) std::this_thread::sleep_for(kRetryPause);
      continue;
    }
    const std::lock_guard<std::mutex> lock(mutex_);
    if (stopping_) return;
    if (connections_.size() >= max_connections_) continue;  // the channel closes as it goes
    connections_.emplace_back();
    Connection& connection = connections_.back();
    connection.channel = *std::move(channel);
    connection.thread = std::thread([this, &connection] {
      handler_(*connection.channel);
      connection.channel->close();
      connection.finished = true;
    });
  }
}

void ConnectionServer::reap() {
  const std::lock_guard<std::mutex> lock(mutex_);
  for (auto it = connections_.begin(); it != connections_.end();) {
    if (it->finished) {
      it->thread.join();
      it = connections_.erase(it);
    } else {
      ++it;
    }
  }
}

}  // namespace kvferry
