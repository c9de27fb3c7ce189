// Waits that are cut short: cancelling while a peer does not answer, and one connection too many.
#include <chrono>
#include <functional>
#include <thread>

#include "kvferry/handoff/connection.hpp"
#include "kvferry/transport/tcp.hpp"

#include "node_fixture.hpp"

namespace kvferry_test {
namespace {

using std::chrono::seconds;

// Longer than any of these tests may take.
constexpr seconds kForever{600};

// Accepts connections, by the system, and never says anything.
std::unique_ptr<Listener> silent_node() {
  return listen_tcp("tcp://127.0.0.1:0", Deadline::after(seconds(5))).value();
}

// Asks the node at `prefill` and cancels a little later; what the client gets.
Error cancelled_request(const std::string& prefill) {
  std::atomic<bool> cancel{false};
  std::thread canceller([&cancel] {
    std::this_thread::sleep_for(std::chrono::milliseconds(200));
    cancel = true;
  });
  ClientOptions options;
  options.prefill = prefill;
  options.timeout = kForever;
  const auto result = generate(
      options, request_of(some_ids(5), 4), [](const std::string&) {}, cancel);
  canceller.join();
  REQUIRE_FALSE(result.ok());
  return result.error();
}

TEST_CASE("a client cancels while the prefill node does not answer") {
  const auto silent = silent_node();
  CHECK(cancelled_request(silent->address()).code == ErrorCode::kCancelled);
}

TEST_CASE("a client cancels while the decode node does not answer it") {
  const auto silent = silent_node();
  const auto decode = start_decode();
  PrefillNodeOptions options;
  options.decode_for_clients = silent->address();
  const auto prefill = start_prefill(decode->address(), options);
  CHECK(cancelled_request(prefill->address()).code == ErrorCode::kCancelled);
}

TEST_CASE("a client that cancels, and a node that stops, end the wait for a silent decode node") {
  const auto silent = silent_node();
  PrefillNodeOptions options;
  options.server.timeout = kForever;
  auto prefill = start_prefill(silent->address(), options);
  CHECK(cancelled_request(prefill->address()).code == ErrorCode::kCancelled);

  std::thread client([&prefill, address = prefill->address()] {
    ClientOptions waiting;
    waiting.prefill = address;
    const std::atomic<bool> never{false};
    const auto result = generate(
        waiting, request_of(some_ids(5), 4), [](const std::string&) {}, never);
    CHECK_FALSE(result.ok());
  });
  std::this_thread::sleep_for(std::chrono::milliseconds(200));
  prefill.reset();
  client.join();
}

TEST_CASE("connecting can be cancelled") {
  // Its queue of one is full: the system leaves further connections unanswered.
  TcpListenOptions options;
  options.backlog = 0;
  const auto full = listen_tcp("tcp://127.0.0.1:0", Deadline::after(seconds(5)), options).value();
  std::vector<std::unique_ptr<Channel>> queued;
  for (int i = 0; i < 8; ++i) {
    auto channel = connect_tcp(full->address(), Deadline::after(std::chrono::milliseconds(200)));
    if (!channel.ok()) break;
    queued.push_back(*std::move(channel));
  }
  REQUIRE(queued.size() < 8);
  const Deadline soon = Deadline::after(std::chrono::milliseconds(200));
  const auto cancelled =
      connect_tcp(full->address(), Deadline::after(kForever), [soon] { return soon.expired(); });
  REQUIRE_FALSE(cancelled.ok());
  CHECK(cancelled.error().code == ErrorCode::kCancelled);
}

TEST_CASE("one connection too many is told so, and the node serves again when one has gone") {
  const auto decode = start_decode();
  PrefillNodeOptions options;
  options.server.max_connections = 1;
  const auto prefill = start_prefill(decode->address(), options);
  {
    const auto channel = connect_tcp(prefill->address(), Deadline::after(seconds(5))).value();
    Connection idle(*channel);
    REQUIRE(idle.greet(wire::Role::kClient, Deadline::after(seconds(5))).ok());
    const auto refused = ask(*prefill, request_of(some_ids(5), 4));
    REQUIRE_FALSE(refused.ok());
    CHECK(refused.error().code == ErrorCode::kResourceExhausted);
    CHECK_THAT(refused.error().message, Catch::Contains("as many connections as it takes (1)"));
  }
  const Deadline deadline = Deadline::after(seconds(30));
  while (!ask(*prefill, request_of(some_ids(5), 4)).ok()) REQUIRE_FALSE(deadline.expired());
}

}  // namespace
}  // namespace kvferry_test
