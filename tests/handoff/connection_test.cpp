#include "kvferry/handoff/connection.hpp"

#include <thread>

#include <catch2/catch.hpp>

#include "kvferry/transport/loopback.hpp"

using namespace kvferry;
using std::chrono::milliseconds;
using std::chrono::seconds;

namespace {

Deadline late() {
  return Deadline::after(seconds(20));
}

// What greet() says to a peer that sends `bytes`, and what the peer is told.
struct Greeting {
  explicit Greeting(const std::vector<std::uint8_t>& bytes) : channels(make_loopback()) {
    REQUIRE(send_all(*channels.second, bytes, late()).ok());
    Connection connection(*channels.first);
    outcome = connection.greet(wire::Role::kDecode, Deadline::after(milliseconds(200)));
    channels.first->close();
    wire::FrameDecoder decoder;
    std::vector<std::uint8_t> buffer(4096);
    for (auto got = channels.second->receive(MutableBytes(buffer), late()); got.ok();
         got = channels.second->receive(MutableBytes(buffer), late())) {
      Bytes rest = Bytes(buffer).first(*got);
      while (!rest.empty()) {
        rest = rest.subspan(decoder.feed(rest).value());
        if (decoder.has_frame()) answers.push_back(decoder.take());
      }
    }
  }
  // The error that the peer was told.
  wire::ErrorMessage told() const {
    REQUIRE(answers.size() == 2);
    CHECK(answers[0].header.type == wire::MessageType::kHello);
    REQUIRE(answers[1].header.type == wire::MessageType::kError);
    return wire::parse_error(answers[1].payload).value();
  }
  ChannelPair channels;
  Status outcome;
  std::vector<wire::Frame> answers;
};

std::vector<std::uint8_t> hello(void (*change)(wire::Hello&)) {
  wire::Hello message;
  change(message);
  std::vector<std::uint8_t> payload;
  REQUIRE(wire::serialize(message, payload).ok());
  std::vector<std::uint8_t> bytes;
  wire::write_frame(wire::MessageType::kHello, {}, payload, bytes);
  return bytes;
}

struct Connected {
  Connected() : channels(make_loopback()), a(*channels.first), b(*channels.second) {
    Status greeted;
    std::thread other([&] { greeted = b.greet(wire::Role::kDecode, late()); });
    REQUIRE(a.greet(wire::Role::kPrefill, late()).ok());
    other.join();
    REQUIRE(greeted.ok());
  }
  ChannelPair channels;
  Connection a;
  Connection b;
};

}  // namespace

TEST_CASE("both ends know each other after their HELLO") {
  Connected c;
  CHECK(c.a.peer_hello().role == wire::Role::kDecode);
  CHECK(c.b.peer_hello().role == wire::Role::kPrefill);
  CHECK(c.a.peer_hello().agent == "kvferry " KVFERRY_VERSION);
}

TEST_CASE("a peer of the future is welcome as long as it speaks our version") {
  const Greeting greeting(hello([](wire::Hello& h) {
    h.max_version = 9;
    h.optional_features = ~std::uint64_t{0};
  }));
  CHECK(greeting.outcome.ok());
}

TEST_CASE("a peer that cannot be understood is told why") {
  const Greeting future(hello([](wire::Hello& h) { h.min_version = h.max_version = 2; }));
  REQUIRE_FALSE(future.outcome.ok());
  CHECK(future.outcome.error().code == ErrorCode::kUnsupported);
  CHECK(future.told().code == ErrorCode::kUnsupported);
  CHECK(future.told().text.find("versions 2 to 2") != std::string::npos);

  const Greeting feature(hello([](wire::Hello& h) { h.required_features = 1u << 5; }));
  REQUIRE_FALSE(feature.outcome.ok());
  CHECK(feature.told().text.find("feature 5") != std::string::npos);

  std::vector<std::uint8_t> bytes;
  wire::write_frame(wire::MessageType::kGenerate, {}, {}, bytes);
  const Greeting eager(bytes);
  CHECK(eager.outcome.error().code == ErrorCode::kProtocol);
  CHECK(eager.told().code == ErrorCode::kProtocol);

  const std::string http = "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";
  const Greeting stranger(std::vector<std::uint8_t>(http.begin(), http.end()));
  CHECK(stranger.outcome.error().code == ErrorCode::kMalformed);
  CHECK(stranger.told().code == ErrorCode::kMalformed);

  std::vector<std::uint8_t> flipped = hello([](wire::Hello&) {});
  flipped.back() ^= 1;
  CHECK(Greeting(flipped).told().code == ErrorCode::kChecksum);

  CHECK(Greeting({}).outcome.error().code == ErrorCode::kTimeout);
}

TEST_CASE("pings are answered and pongs dropped while an application waits") {
  Connected c;
  REQUIRE(c.a.send(wire::MessageType::kPing, wire::Ping{7, 70}, late()).ok());
  REQUIRE(c.a.send(wire::MessageType::kPong, wire::Pong{}, late()).ok());
  REQUIRE(c.a.send(wire::MessageType::kAttach, wire::Attach{}, late()).ok());
  CHECK(c.b.receive(late())->header.type == wire::MessageType::kAttach);
  const auto pong = c.a.receive_any(late());
  REQUIRE(pong.ok());
  const auto parsed = wire::parse_pong(Result<wire::Frame>(pong)->payload);
  REQUIRE(parsed.ok());
  CHECK(parsed->nonce == 7);
  CHECK(parsed->ping_clock_ns == 70);
}

TEST_CASE("late frames of a hand-off that is over are dropped") {
  Connected c;
  c.b.retire(5);
  CHECK(c.b.next_handoff() == 6);
  const wire::Credit credit{1};
  REQUIRE(c.a.send(wire::MessageType::kCredit, credit, late(), {4, 1, 1}).ok());
  REQUIRE(c.a.send(wire::MessageType::kCredit, credit, late(), {5, 1, 1}).ok());
  REQUIRE(c.a.send(wire::MessageType::kCredit, credit, late(), {6, 1, 1}).ok());
  CHECK(c.b.receive(late())->header.address.handoff == 6);
}

TEST_CASE(
    "an offer under a hand-off id that was used before is refused, not taken for a late frame") {
  Connected c;
  c.b.retire(5);
  const wire::FrameAddress used{5, 2, 1};
  const Bytes payload;  // the id alone decides
  const auto header = wire::make_header(wire::MessageType::kOffer, used, payload);
  REQUIRE(c.a.send_frame(header, payload, Bytes(), late()).ok());
  REQUIRE(c.a.send(wire::MessageType::kAttach, wire::Attach{}, late()).ok());
  CHECK(c.b.receive(late())->header.type == wire::MessageType::kAttach);
  const auto answer = c.a.receive(late());
  REQUIRE(answer.ok());
  REQUIRE(answer->header.type == wire::MessageType::kError);
  CHECK(answer->header.address.handoff == 5);
  CHECK(answer->header.address.epoch == 2);
  const auto error = wire::parse_error(answer->payload);
  REQUIRE(error.ok());
  CHECK(error->code == ErrorCode::kProtocol);
  CHECK(error->text.find("ids up to 5") != std::string::npos);
}

TEST_CASE("the peer's error for the connection, and its goodbye, are this end's error") {
  {
    Connected c;
    c.a.send_error(Error(ErrorCode::kResourceExhausted, "too many\nconnections"), late());
    const auto got = c.b.receive(late());
    REQUIRE_FALSE(got.ok());
    CHECK(got.error().code == ErrorCode::kResourceExhausted);
    CHECK(got.error().message.find("too many?connections") != std::string::npos);
  }
  Connected c;
  REQUIRE(c.a.send(wire::MessageType::kGoodbye, wire::Goodbye{}, late()).ok());
  CHECK(c.b.receive(late()).error().code == ErrorCode::kClosed);
}

TEST_CASE("a frame that is cut by a deadline goes on afterwards") {
  Connected c;
  std::vector<std::uint8_t> bytes;
  std::vector<std::uint8_t> payload;
  REQUIRE(wire::serialize(wire::Attach{}, payload).ok());
  wire::write_frame(wire::MessageType::kAttach, {}, payload, bytes);
  REQUIRE(send_all(*c.channels.first, Bytes(bytes).first(20), late()).ok());
  CHECK(c.b.receive(Deadline::after(milliseconds(20))).error().code == ErrorCode::kTimeout);
  REQUIRE(send_all(*c.channels.first, Bytes(bytes).subspan(20), late()).ok());
  CHECK(c.b.receive(late())->header.type == wire::MessageType::kAttach);

  REQUIRE(send_all(*c.channels.first, Bytes(bytes).first(20), late()).ok());
  c.channels.first->close();
  CHECK(c.b.receive(late()).error().code == ErrorCode::kIncomplete);
}

TEST_CASE("a payload that the peer does not take is not sent") {
  ChannelPair channels = make_loopback();
  Connection a(*channels.first);
  Connection b(*channels.second, wire::kMinMaxPayload);
  Status greeted;
  std::thread other([&] { greeted = b.greet(wire::Role::kDecode, late()); });
  REQUIRE(a.greet(wire::Role::kPrefill, late()).ok());
  other.join();
  const std::vector<std::uint8_t> payload(wire::kMinMaxPayload + 1);
  const auto sent = a.send_frame(wire::make_header(wire::MessageType::kBlock, {}, payload), payload,
                                 Bytes(), late());
  REQUIRE_FALSE(sent.ok());
  CHECK(sent.error().code == ErrorCode::kResourceExhausted);
}
