#include "kvferry/node/connection_server.hpp"

#include <algorithm>
#include <chrono>
#include <exception>
#include <system_error>
#include <utility>

namespace kvferry {
namespace {
// How often finished threads are joined while nobody connects, and the pause after an accept that
// failed for want of descriptors.
constexpr std::chrono::milliseconds kReapInterval{500};
constexpr std::chrono::milliseconds kRetryPause{50};
}  // namespace

ConnectionServer::ConnectionServer(std::unique_ptr<Listener> listener, std::size_t max_connections,
                                   Handler serve, Handler refuse, NodeLog log)
    : listener_(std::move(listener)),
      max_connections_(max_connections),
      serve_(std::move(serve)),
      refuse_(std::move(refuse)),
      log_(std::move(log)),
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
    add(*std::move(channel));
  }
}

void ConnectionServer::add(std::unique_ptr<Channel> channel) {
  const std::lock_guard<std::mutex> lock(mutex_);
  const auto refused = static_cast<std::size_t>(std::count_if(
      connections_.begin(), connections_.end(), [](const Connection& c) { return c.refused; }));
  const bool full = connections_.size() - refused >= max_connections_;
  if (stopping_ || (full && refused >= kMaxRefusals)) return;  // the channel closes as it goes
  connections_.emplace_back();
  Connection& connection = connections_.back();
  connection.channel = std::move(channel);
  connection.refused = full;
  const Handler& handler = full ? refuse_ : serve_;
  try {
    connection.thread = std::thread([this, &connection, &handler] {
      try {
        handler(*connection.channel);
      } catch (const std::exception& failure) {  // out of memory, no thread to be had
        log_(connection.channel->peer() + ": " + failure.what());
      }
      connection.channel->close();
      connection.finished = true;
    });
  } catch (const std::system_error& failure) {
    log_(connection.channel->peer() + ": no thread to serve it: " + failure.what());
    connections_.pop_back();
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
