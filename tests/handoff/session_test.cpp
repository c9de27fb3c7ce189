#include "kvferry/handoff/session.hpp"

#include <atomic>
#include <chrono>
#include <thread>

#include <catch2/catch.hpp>

#include "sessions.hpp"

using namespace kvferry;
using namespace kvferry::testing;
using std::chrono::milliseconds;
using std::chrono::seconds;

namespace {

const KvGeometry kGeometry = handoff_geometry();
const KnownSource kSource(kGeometry);

// Publishes everything, chunk by chunk and layer by layer.
Status publish_all(SendSession& session, std::uint32_t tokens, std::uint32_t chunk) {
  for (std::uint32_t at = 0; at < tokens; at += chunk) {
    for (std::uint32_t layer = 0; layer < kGeometry.layers; ++layer)
      KVFERRY_TRY(session.publish(layer, at, std::min(at + chunk, tokens)));
  }
  return {};
}

}  // namespace

TEST_CASE("a session hands a cache over") {
  for (const std::uint32_t threads : {1u, 3u}) {
    Link link;
    const auto sequence = empty_sequence(kGeometry);
    SequenceHandler handler(sequence);
    ReceiveOptions receive_options;
    receive_options.decode_threads = threads;
    Receiving receiving(link.receiver, handler, receive_options);
    SendOptions options;
    options.encode_threads = threads;
    auto session =
        SendSession::start(link.sender, kSource, make_offer(kGeometry, 1000), options).value();
    CHECK(session->accepted()->held_prefix == 0);
    REQUIRE(publish_all(*session, 1000, 64).ok());
    const auto sent = session->finish();
    REQUIRE(sent.ok());
    const auto received = receiving.outcome();
    REQUIRE(received.ok());
    CHECK(sequence->tokens() == some_tokens(1000));
    CHECK(holds_known_rows(*sequence, 0, 1000));
    CHECK(sent->commit.length == 1000);
    CHECK(received->commit.generation == sequence->generation());

    const std::uint64_t raw = std::uint64_t{1000} * 3 * 2 * kGeometry.row_bytes();
    CHECK(sent->report.raw_bytes == raw);
    CHECK(received->report.raw_bytes == raw);
    CHECK(sent->report.blocks >= 24);  // when every chunk waited for others to join it
    CHECK(sent->report.blocks <= 96);  // when none did
    CHECK(received->report.blocks == sent->report.blocks);
    CHECK(sent->report.payload_bytes == received->report.payload_bytes);
    CHECK(sent->report.wire_bytes > sent->report.payload_bytes);
    CHECK(sent->report.sent_bytes > sent->report.payload_bytes);
    CHECK(sent->report.side_bytes + sent->report.symbol_bytes < sent->report.payload_bytes);
    CHECK(received->report.total_seconds > 0);
  }
}

TEST_CASE("one connection serves hand-offs one after the other, failed ones too") {
  Link link;
  for (int round = 0; round < 6; ++round) {
    const auto sequence = empty_sequence(kGeometry);
    SequenceHandler handler(sequence);
    Receiving receiving(link.receiver, handler);
    wire::Offer offer = make_offer(kGeometry, 600);
    if (round % 3 == 1) offer.identity.norms = 5;
    auto session = SendSession::start(link.sender, kSource, offer).value();
    const Status published = publish_all(*session, 600, 100);
    if (round % 3 == 2) session->cancel(Error(ErrorCode::kCancelled, "changed its mind"));
    const auto sent = session->finish();
    const auto received = receiving.outcome();
    INFO("round " << round);
    if (round % 3 == 0) {
      REQUIRE(published.ok());
      REQUIRE(sent.ok());
      REQUIRE(received.ok());
      CHECK(holds_known_rows(*sequence, 0, 600));
    } else if (round % 3 == 1) {
      CHECK(sent.error().code == ErrorCode::kMismatch);
      CHECK(received.error().code == ErrorCode::kMismatch);
      CHECK(received.error().message.find("norms") != std::string::npos);
      CHECK(sequence->length() == 0);
    } else if (!sent.ok()) {  // the cancel may come too late
      CHECK(sent.error().code == ErrorCode::kCancelled);
      CHECK(received.error().code == ErrorCode::kCancelled);
      CHECK(received.error().message.find("changed its mind") != std::string::npos);
      CHECK(sequence->length() == 0);
    }
  }
}

TEST_CASE("the first token comes while the cache is still on its way") {
  Link link;
  const auto sequence = empty_sequence(kGeometry);
  SequenceHandler handler(sequence);
  Receiving receiving(link.receiver, handler);
  wire::Offer offer = make_offer(kGeometry, 100);
  offer.decode.emplace();
  auto session = SendSession::start(link.sender, kSource, offer).value();
  wire::FirstToken token;
  token.token = 7;
  REQUIRE(session->send_first_token(token).ok());
  REQUIRE(publish_all(*session, 100, 100).ok());
  REQUIRE(session->finish().ok());
  REQUIRE(receiving.outcome().ok());
  REQUIRE(handler.first_tokens.size() == 1);
  CHECK(handler.first_tokens[0].token == 7);
}

TEST_CASE("a first token that the application refuses fails the hand-off, and the sender is told") {
  class Throwing : public SequenceHandler {
   public:
    using SequenceHandler::SequenceHandler;
    Status on_first_token(const wire::FirstToken&) override {
      throw std::runtime_error("the token is cursed");
    }
  };
  const auto failure = [](auto& handler, const KvSequence& sequence) {
    Link link;
    Receiving receiving(link.receiver, handler);
    wire::Offer offer = make_offer(kGeometry, 100);
    offer.decode.emplace();
    auto session = SendSession::start(link.sender, kSource, offer).value();
    REQUIRE(session->send_first_token({}).ok());
    const Status ignored = publish_all(*session, 100, 100);
    static_cast<void>(ignored);
    const auto sent = session->finish();
    const auto received = receiving.outcome();
    REQUIRE_FALSE(sent.ok());
    REQUIRE_FALSE(received.ok());
    CHECK(sequence.length() == 0);
    CHECK(sequence.pool()->free_blocks() == sequence.pool()->capacity_blocks());
    CHECK(received.error().code == sent.error().code);
    return sent.error();
  };
  const auto sequence = empty_sequence(kGeometry);
  SequenceHandler refusing(sequence);
  refusing.first_token_answer = Error(ErrorCode::kMismatch, "the model would not say this");
  const Error refused = failure(refusing, *sequence);
  CHECK(refused.code == ErrorCode::kMismatch);
  CHECK(refused.message.find("would not say this") != std::string::npos);
  Throwing throwing(sequence);
  CHECK(failure(throwing, *sequence).message.find("cursed") != std::string::npos);
}

TEST_CASE("either end cancels at once, and the other is told why") {
  for (const bool sender_cancels : {true, false}) {
    Link link;
    const auto sequence = empty_sequence(kGeometry);
    SequenceHandler handler(sequence);
    Receiving receiving(link.receiver, handler);
    auto session = SendSession::start(link.sender, kSource, make_offer(kGeometry, 600)).value();
    REQUIRE(session->accepted().ok());
    REQUIRE(session->publish(0, 0, 300).ok());
    const Error reason(ErrorCode::kCancelled, "the user left");
    if (sender_cancels) {
      session->cancel(reason);
    } else {
      receiving.session().cancel(reason);
    }
    const auto sent = session->finish();
    const auto received = receiving.outcome();
    REQUIRE_FALSE(sent.ok());
    REQUIRE_FALSE(received.ok());
    for (const Error& error : {sent.error(), received.error()}) {
      CHECK(error.code == ErrorCode::kCancelled);
      CHECK(error.message.find("the user left") != std::string::npos);
    }
    CHECK(session->publish(1, 0, 1).error().code == ErrorCode::kCancelled);
    CHECK(sequence->pool()->free_blocks() == sequence->pool()->capacity_blocks());
  }
}

TEST_CASE("a session that is dropped in the middle cancels") {
  Link link;
  const auto sequence = empty_sequence(kGeometry);
  SequenceHandler handler(sequence);
  Receiving receiving(link.receiver, handler);
  {
    auto session = SendSession::start(link.sender, kSource, make_offer(kGeometry, 600)).value();
    REQUIRE(session->accepted().ok());
  }
  CHECK(receiving.outcome().error().code == ErrorCode::kCancelled);
}

TEST_CASE("an application that refuses, or cannot write, says so to the sender") {
  class Refusing : public HandoffHandler {
   public:
    Result<HandoffAcceptance> on_offer(const wire::Offer&) override {
      return Error(ErrorCode::kResourceExhausted, "no room at the inn");
    }
    Status on_first_token(const wire::FirstToken&) override { return {}; }
  };
  class ThrowingSink : public KvSink {
   public:
    const KvGeometry& geometry() const override { return kGeometry; }
    Status begin(const KvImportPlan&) override { return {}; }
    Status write(const KvRange&, Bytes) override { throw std::runtime_error("the disk is gone"); }
    Result<KvCommit> commit() override { return KvCommit{}; }
    void abort() noexcept override { ++aborts; }
    int aborts = 0;
  };
  class Throwing : public HandoffHandler {
   public:
    Result<HandoffAcceptance> on_offer(const wire::Offer&) override {
      HandoffAcceptance acceptance;
      acceptance.sink = &sink;
      return acceptance;
    }
    Status on_first_token(const wire::FirstToken&) override { return {}; }
    ThrowingSink sink;
  };
  const auto failure = [](HandoffHandler& handler) {
    Link link;
    Receiving receiving(link.receiver, handler);
    auto session = SendSession::start(link.sender, kSource, make_offer(kGeometry, 40)).value();
    const Status ignored = publish_all(*session, 40, 40);
    static_cast<void>(ignored);
    const auto sent = session->finish();
    REQUIRE_FALSE(sent.ok());
    REQUIRE_FALSE(receiving.outcome().ok());
    return sent.error();
  };
  Refusing refusing;
  const Error refused = failure(refusing);
  CHECK(refused.code == ErrorCode::kResourceExhausted);
  CHECK(refused.message.find("no room at the inn") != std::string::npos);
  Throwing throwing;
  CHECK(failure(throwing).message.find("the disk is gone") != std::string::npos);
  CHECK(throwing.sink.aborts == 1);
}

TEST_CASE("a source that cannot be read ends the hand-off at both ends") {
  class Unreadable : public KnownSource {
   public:
    using KnownSource::KnownSource;
    Status read(const KvRange& range, MutableBytes out) const override {
      if (range.layer == 1) return Error(ErrorCode::kIo, "bad memory");
      return KnownSource::read(range, out);
    }
  };
  const Unreadable source(kGeometry);
  Link link;
  const auto sequence = empty_sequence(kGeometry);
  SequenceHandler handler(sequence);
  Receiving receiving(link.receiver, handler);
  auto session = SendSession::start(link.sender, source, make_offer(kGeometry, 40)).value();
  const Status ignored = publish_all(*session, 40, 40);
  static_cast<void>(ignored);
  CHECK(session->finish().error().code == ErrorCode::kIo);
  const auto received = receiving.outcome();
  CHECK(received.error().code == ErrorCode::kIo);
  CHECK(received.error().message.find("bad memory") != std::string::npos);
  CHECK(sequence->length() == 0);
}

TEST_CASE("a lost connection ends both sessions") {
  for (const bool sender_side : {true, false}) {
    Link link;
    const auto sequence = empty_sequence(kGeometry);
    SequenceHandler handler(sequence);
    Receiving receiving(link.receiver, handler);
    auto session = SendSession::start(link.sender, kSource, make_offer(kGeometry, 600)).value();
    REQUIRE(session->accepted().ok());
    (sender_side ? link.sender : link.receiver).close();
    CHECK(session->finish().error().code == ErrorCode::kClosed);
    CHECK(receiving.outcome().error().code == ErrorCode::kClosed);
    CHECK(sequence->pool()->free_blocks() == sequence->pool()->capacity_blocks());
  }
}

TEST_CASE("a peer that says nothing is given up") {
  HandoffTimeouts timeouts;
  timeouts.ping = milliseconds(50);
  timeouts.silence = milliseconds(300);
  {
    Link link;
    SendOptions options;
    options.timeouts = timeouts;
    auto session =
        SendSession::start(link.sender, kSource, make_offer(kGeometry, 600), options).value();
    const auto sent = session->finish();
    REQUIRE_FALSE(sent.ok());
    CHECK(sent.error().code == ErrorCode::kTimeout);
    CHECK(sent.error().message.find("taken for dead") != std::string::npos);
  }
  {
    Link link;
    const auto sequence = empty_sequence(kGeometry);
    SequenceHandler handler(sequence);
    ReceiveOptions options;
    options.timeouts = timeouts;
    Receiving receiving(link.receiver, handler, options);
    REQUIRE(
        link.sender.send(wire::MessageType::kOffer, make_offer(kGeometry, 600), late(), {1, 1, 1})
            .ok());
    const auto received = receiving.outcome();
    REQUIRE_FALSE(received.ok());
    CHECK(received.error().code == ErrorCode::kTimeout);
    CHECK(sequence->pool()->free_blocks() == sequence->pool()->capacity_blocks());
  }
}

TEST_CASE("a living peer that is slow is waited for") {
  Link link;
  HandoffTimeouts timeouts;
  timeouts.ping = milliseconds(20);
  timeouts.silence = milliseconds(300);
  const auto sequence = empty_sequence(kGeometry);
  SequenceHandler handler(sequence);
  ReceiveOptions receive_options;
  receive_options.timeouts = timeouts;
  Receiving receiving(link.receiver, handler, receive_options);
  SendOptions options;
  options.timeouts = timeouts;
  auto session =
      SendSession::start(link.sender, kSource, make_offer(kGeometry, 100), options).value();
  std::this_thread::sleep_for(milliseconds(900));  // the prefill computes
  REQUIRE(publish_all(*session, 100, 100).ok());
  REQUIRE(session->finish().ok());
  CHECK(receiving.outcome().ok());
}

TEST_CASE("two sources make one cache") {
  Link first;
  Link second;
  const auto sequence = empty_sequence(kGeometry);
  SequenceHandler handler(sequence);
  ReceiveSession receiving(handoff_identity(), handler);
  wire::Offer offer = make_offer(kGeometry, 300);
  offer.coverage = {{1, 0, 2, 0, 300}, {2, 2, 3, 0, 300}};
  offer.decode.emplace();

  std::vector<std::thread> threads;
  std::atomic<int> committed{0};
  for (Link* const link : {&first, &second}) {
    threads.emplace_back([&, link] {
      auto frame = link->receiver.receive(late());
      const auto outcome = receiving.serve(link->receiver, frame.value());
      committed += outcome.ok() ? 1 : 0;
    });
  }
  SendOptions options;
  auto one = SendSession::start(first.sender, kSource, offer, options).value();
  options.source = 2;
  options.sends_first_token = false;
  auto two = SendSession::start(second.sender, kSource, offer, options).value();
  REQUIRE(one->publish(0, 0, 300).ok());
  REQUIRE(two->publish(2, 0, 300).ok());
  CHECK_FALSE(two->publish(1, 0, 300).ok());
  REQUIRE(one->publish(1, 0, 300).ok());
  REQUIRE(one->send_first_token({}).ok());
  CHECK(one->finish().ok());
  CHECK(two->finish().ok());
  for (std::thread& thread : threads) thread.join();
  CHECK(committed == 2);
  CHECK(holds_known_rows(*sequence, 0, 300));
  CHECK(handler.first_tokens.size() == 1);
}

TEST_CASE("when one of two sources is lost, the other is told and nothing is committed") {
  Link first;
  Link second;
  const auto sequence = empty_sequence(kGeometry);
  SequenceHandler handler(sequence);
  ReceiveSession receiving(handoff_identity(), handler);
  wire::Offer offer = make_offer(kGeometry, 300);
  offer.coverage = {{1, 0, 2, 0, 300}, {2, 2, 3, 0, 300}};
  std::vector<std::thread> threads;
  std::atomic<int> failed{0};
  for (Link* const link : {&first, &second}) {
    threads.emplace_back([&, link] {
      auto frame = link->receiver.receive(late());
      failed += receiving.serve(link->receiver, frame.value()).ok() ? 0 : 1;
    });
  }
  SendOptions options;
  auto one = SendSession::start(first.sender, kSource, offer, options).value();
  options.source = 2;
  auto two = SendSession::start(second.sender, kSource, offer, options).value();
  REQUIRE(one->accepted().ok());
  REQUIRE(two->accepted().ok());
  REQUIRE(two->publish(2, 0, 300).ok());
  first.sender.close();
  CHECK_FALSE(one->finish().ok());
  const auto outcome = two->finish();
  REQUIRE_FALSE(outcome.ok());
  CHECK(outcome.error().message.find("gone") != std::string::npos);
  for (std::thread& thread : threads) thread.join();
  CHECK(failed == 2);
  CHECK(sequence->pool()->free_blocks() == sequence->pool()->capacity_blocks());
}
