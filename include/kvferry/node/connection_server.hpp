// ConnectionServer: one thread for each connection of a listener, all of them joined by stop().
#pragma once

#include <atomic>
#include <cstddef>
#include <functional>
#include <list>
#include <memory>
#include <mutex>
#include <string>
#include <thread>

#include "kvferry/node/node_options.hpp"
#include "kvferry/transport/channel.hpp"

namespace kvferry {

class ConnectionServer {
 public:
  // Serves one connection; returning ends it, and so does an exception, which is logged. Called on
  // a thread of its own. `channel` is closed by stop(), which makes every call on it return.
  using Handler = std::function<void(Channel& channel)>;

  // Beyond `max_connections` at a time a new one goes to `refuse`, which tells it so and does not
  // take long; beyond kMaxRefusals of those it is closed at once.
  static constexpr std::size_t kMaxRefusals = 16;
  ConnectionServer(std::unique_ptr<Listener> listener, std::size_t max_connections, Handler serve,
                   Handler refuse, NodeLog log);
  ~ConnectionServer() { stop(); }
  ConnectionServer(const ConnectionServer&) = delete;
  ConnectionServer& operator=(const ConnectionServer&) = delete;

  std::string address() const { return listener_->address(); }

  // Stops accepting, closes all connections and waits for their handlers. Not from a handler.
  void stop();

 private:
  struct Connection {
    std::unique_ptr<Channel> channel;
    bool refused = false;
    std::thread thread;
    std::atomic<bool> finished{false};
  };

  void accept_loop();
  void add(std::unique_ptr<Channel> channel);
  // Joins the threads whose handlers have returned.
  void reap();

  const std::unique_ptr<Listener> listener_;
  const std::size_t max_connections_;
  const Handler serve_;
  const Handler refuse_;
  const NodeLog log_;
  std::mutex mutex_;  // of connections_ and stopping_
  std::list<Connection> connections_;
  bool stopping_ = false;
  std::thread accepting_;
};

}  // namespace kvferry
