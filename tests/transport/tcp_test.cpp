#include "kvferry/transport/tcp.hpp"

#include <chrono>
#include <thread>

#include <catch2/catch.hpp>

#include "tests/transport/conformance.hpp"

using namespace kvferry;
using std::chrono::milliseconds;

namespace {

Deadline late() {
  return Deadline::after(milliseconds(20000));
}
Deadline soon() {
  return Deadline::after(milliseconds(50));
}

Result<ChannelPair> tcp_pair(const std::string& url) {
  KVFERRY_ASSIGN(const auto listener, listen_tcp(url, late()));
  ChannelPair pair;
  KVFERRY_ASSIGN(pair.first, connect_tcp(listener->address(), late()));
  KVFERRY_ASSIGN(pair.second, listener->accept(late()));
  return pair;
}

}  // namespace

TEST_CASE("TCP is a channel") {
  testing::require_conformance([] { return tcp_pair("tcp://127.0.0.1:0"); });
}

TEST_CASE("TCP over IPv6 and by name") {
  for (const char* const url : {"tcp://[::1]:0", "tcp://localhost:0"}) {
    auto pair = tcp_pair(url);
    if (!pair.ok() && std::string(url).find("::1") != std::string::npos) {
      WARN("no IPv6 on this machine: " << pair.error().message);
      continue;
    }
    REQUIRE(pair.ok());
    const std::string text = "over " + std::string(url);
    REQUIRE(send_all(*pair->first, as_bytes(text), late()).ok());
    std::vector<std::uint8_t> got(text.size());
    REQUIRE(receive_all(*pair->second, MutableBytes(got), late()).ok());
    CHECK(std::string(got.begin(), got.end()) == text);
  }
}

TEST_CASE("a listener says where it really listens, and both ends who the peer is") {
  const auto listener = listen_tcp("tcp://127.0.0.1:0", late()).value();
  CHECK(listener->address().find("tcp://127.0.0.1:") == 0);
  CHECK(listener->address() != "tcp://127.0.0.1:0");
  const auto channel = connect_tcp(listener->address(), late()).value();
  CHECK(channel->peer() == listener->address());
  const auto accepted = listener->accept(late()).value();
  CHECK(accepted->peer().find("tcp://127.0.0.1:") == 0);
}

TEST_CASE("only loopback addresses are listened on unless public ones are allowed") {
  for (const char* const url : {"tcp://0.0.0.0:0", "tcp://[::]:0"}) {
    const auto refused = listen_tcp(url, late());
    REQUIRE_FALSE(refused.ok());
    CHECK(refused.error().code == ErrorCode::kPermission);
    CHECK(refused.error().message.find("not a loopback address") != std::string::npos);
  }
  TcpListenOptions options;
  options.allow_public = true;
  CHECK(listen_tcp("tcp://0.0.0.0:0", late(), options).ok());
}

TEST_CASE("a listener waits for its deadline, and closing wakes it") {
  const auto listener = listen_tcp("tcp://127.0.0.1:0", late()).value();
  const auto nobody = listener->accept(soon());
  REQUIRE_FALSE(nobody.ok());
  CHECK(nobody.error().code == ErrorCode::kTimeout);

  std::thread closer([&] {
    std::this_thread::sleep_for(milliseconds(30));
    listener->close();
  });
  const auto closed = listener->accept(late());
  closer.join();
  REQUIRE_FALSE(closed.ok());
  CHECK(closed.error().code == ErrorCode::kClosed);
  CHECK(listener->accept(late()).error().code == ErrorCode::kClosed);
  listener->close();
}

TEST_CASE("connecting to nobody fails by name") {
  std::string address;
  { address = listen_tcp("tcp://127.0.0.1:0", late()).value()->address(); }
  const auto refused = connect_tcp(address, late());
  REQUIRE_FALSE(refused.ok());
  CHECK(refused.error().code == ErrorCode::kIo);
  CHECK(refused.error().message.find(address) != std::string::npos);

  CHECK(connect_tcp("tcp://no-such-host.invalid:80", late()).error().code == ErrorCode::kNotFound);
  CHECK(connect_tcp("tcp://127.0.0.1:0", late()).error().code == ErrorCode::kInvalidArgument);
  CHECK(connect_tcp("udp://127.0.0.1:80", late()).error().code == ErrorCode::kInvalidArgument);
  CHECK(tcp_connector("127.0.0.1:80").error().code == ErrorCode::kInvalidArgument);
}

TEST_CASE("a connection that nobody answers times out") {
  // A full backlog: the kernel drops further connection requests.
  TcpListenOptions options;
  options.backlog = 0;
  const auto listener = listen_tcp("tcp://127.0.0.1:0", late(), options).value();
  std::vector<std::unique_ptr<Channel>> waiting;
  Status last;
  for (int i = 0; i < 8 && last.ok(); ++i) {
    auto channel = connect_tcp(listener->address(), soon());
    if (channel.ok()) {
      waiting.push_back(*std::move(channel));
    } else {
      last = channel.error();
    }
  }
  REQUIRE_FALSE(last.ok());
  CHECK(last.error().code == ErrorCode::kTimeout);
}

TEST_CASE("a connector opens any number of channels, from several threads") {
  const auto listener = listen_tcp("tcp://127.0.0.1:0", late()).value();
  const auto connector = tcp_connector(listener->address()).value();
  std::vector<std::thread> threads;
  std::atomic<int> connected{0};
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([&] { connected += connector->connect(late()).ok() ? 1 : 0; });
  }
  for (std::thread& thread : threads) thread.join();
  CHECK(connected == 4);
}
