// ConnectionServer: one thread for each connection of a listener, all of them joined by stop().
#pragma once

#include <atomic>
#include <cstddef>
#include <functional>
#include <list>
#include <memory>
#include <mutex>
#include <thread>

#include "kvferry/transport/channel.hpp"

namespace kvferry {

class ConnectionServer {
 public:
  // Serves one connection; returning ends it. Called on a thread of its own. `channel` is closed by
  // stop(), which makes every call on it return.
  using Handler = std::function<void(Channel& channel)>;

  // Beyond `max_connections` at a time a new one is closed at once.
  ConnectionServer(std::unique_ptr<Listener> listener, std::size_t max_connections,
                   Handler handler);
  ~ConnectionServer() { stop(); }
  ConnectionServer(const ConnectionServer&) = delete;
  ConnectionServer& operator=(const ConnectionServer&) = delete;

  std::string address() const { return listener_->address(); }

  // Stops accepting, closes all connections and waits for their handlers. Not from a handler.
  void stop();

 private:
  struct Connection {
    std::unique_ptr<Channel> channel;
    std::thread thread;
    std::atomic<bool> finished{false};
  };

  void accept_loop();
  // Joins the threads whose handlers have returned.
  void reap();

  const std::unique_ptr<Listener> listener_;
  const std::size_t max_connections_;
  const Handler handler_;
  std::mutex mutex_;  // of connections_ and stopping_
  std::list<Connection> connections_;
  bool stopping_ = false;
  std::thread accepting_;
};

}  // namespace kvferry
