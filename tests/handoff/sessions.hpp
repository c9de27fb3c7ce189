// Two ends of a hand-off, each with its threads, joined by a channel in the process.
#pragma once

#include <chrono>
#include <optional>
#include <thread>

#include <catch2/catch.hpp>

#include "kvferry/handoff/session.hpp"
#include "kvferry/transport/loopback.hpp"

#include "support.hpp"

namespace kvferry::testing {

inline Deadline late() {
  return Deadline::after(std::chrono::seconds(20));
}

// Two connections that have greeted each other.
struct Link {
  explicit Link(std::size_t capacity = 64 * 1024)
      : channels(make_loopback(capacity)), sender(*channels.first), receiver(*channels.second) {
    Status greeted;
    std::thread other([&] { greeted = receiver.greet(wire::Role::kDecode, late()); });
    REQUIRE(sender.greet(wire::Role::kPrefill, late()).ok());
    other.join();
    REQUIRE(greeted.ok());
  }
  ChannelPair channels;
  Connection sender;
  Connection receiver;
};

// Receives one offered hand-off in its own thread.
class Receiving {
 public:
  Receiving(Connection& connection, HandoffHandler& handler, const ReceiveOptions& options = {})
      : session_(handoff_identity(), handler, options), thread_([this, &connection] {
          const auto frame = connection.receive(late());
          if (!frame.ok()) {
            outcome_ = frame.error();
          } else {
            outcome_ = session_.serve(connection, *frame);
          }
        }) {}
  ~Receiving() {
    if (thread_.joinable()) thread_.join();
  }
  Result<HandoffReceipt> outcome() {
    thread_.join();
    return *outcome_;
  }
  ReceiveSession& session() { return session_; }

 private:
  ReceiveSession session_;
  std::optional<Result<HandoffReceipt>> outcome_;
  std::thread thread_;
};

}  // namespace kvferry::testing
