// Every wait of a hand-off ends: time passes only when the test says so.
#include <catch2/catch.hpp>

#include "machines.hpp"

using namespace kvferry;
using namespace kvferry::testing;
using std::chrono::milliseconds;

namespace {

const KvGeometry kGeometry = handoff_geometry();
const KnownSource kSource(kGeometry);

// Lets time pass in steps. With `talking`, pings and pongs go on between the ends.
void pass(MachinePair& pair, milliseconds time, bool talking) {
  for (milliseconds step{0}; step < time; step += milliseconds(500)) {
    pair.now += milliseconds(500);
    pair.sender.machine.on_tick(pair.now);
    pair.receiver.machine.on_tick(pair.now);
    if (talking) pair.run();
  }
}

void require_timeout(const std::string& word, const Error& error) {
  INFO(error.message);
  CHECK(error.code == ErrorCode::kTimeout);
  CHECK(error.message.find(word) != std::string::npos);
}

}  // namespace

TEST_CASE("silence ends a hand-off at either end, in every state") {
  for (std::uint64_t frames = 1; frames < 12; ++frames) {
    const auto sequence = empty_sequence(kGeometry);
    MachinePair pair(make_offer(kGeometry, 300), kSource, sequence);
    publish_all(pair.sender.machine, make_offer(kGeometry, 300), 1);
    while (pair.frames < frames) REQUIRE(pair.step());
    pass(pair, HandoffTimeouts().silence + milliseconds(1000), false);
    REQUIRE(pair.sender.machine.state() == HandoffSender::State::kFailed);
    require_timeout("taken for dead", pair.sender.machine.error());
    if (pair.receiver.machine.awaits_frames()) FAIL("the receiver still waits");
    while (pair.receiver.work(pair.now)) {
    }
    if (pair.receiver.machine.state() == HandoffReceiver::State::kFailed) {
      require_timeout("taken for dead", pair.receiver.machine.error(0));
      CHECK(sequence->pool()->free_blocks() == sequence->pool()->capacity_blocks());
    }
  }
}

TEST_CASE("pings keep an idle hand-off alive for as long as the prefill computes") {
  const auto sequence = empty_sequence(kGeometry);
  ReceiverOptions options;
  options.timeouts.stall = std::chrono::hours(2);
  MachinePair pair(make_offer(kGeometry, 300), kSource, sequence, options);
  pair.run();
  pass(pair, std::chrono::hours(1), true);
  pair.hand_over();
  CHECK(pair.sender.machine.state() == HandoffSender::State::kCommitted);
}

TEST_CASE("a receiver that lives and does nothing is given up by name") {
  using wire::MessageType;
  const HandoffTimeouts timeouts;
  struct Case {
    MessageType missing;
    milliseconds time;
    const char* word;
  };
  for (const Case& c : {Case{MessageType::kAccept, timeouts.accept, "did not answer the offer"},
                        Case{MessageType::kCredit, timeouts.stall, "no credit"},
                        Case{MessageType::kCommitted, timeouts.commit, "did not commit"}}) {
    INFO(c.word);
    const auto sequence = empty_sequence(kGeometry);
    ReceiverOptions options;
    options.timeouts.stall = std::chrono::hours(1);
    if (c.missing == MessageType::kCredit) options.credit = 4000;
    MachinePair pair(make_offer(kGeometry, 300), kSource, sequence, options);
    publish_all(pair.sender.machine, make_offer(kGeometry, 300), 1);
    pair.filter = [&](wire::Frame& frame, bool) {
      if (frame.header.type == c.missing) frame.header.address.epoch = 99;
      return true;
    };
    // The commit is what the receiver's application does not get to; it goes on with its pings.
    const auto stuck = [&] {
      return pair.receiver.machine.state() == HandoffReceiver::State::kCommitting;
    };
    const auto run = [&] {
      while (!stuck() && pair.step()) {
      }
      while (auto frame = pair.receiver.machine.take_frame(0, pair.now))
        pair.sender.machine.on_frame(to_frame(*std::move(frame)), pair.now);
    };
    run();
    while (pair.sender.machine.take_frame(pair.now)) {  // END counts as sent
    }
    const TimePoint end = pair.now + c.time + milliseconds(2000);
    while (pair.now < end) {
      CHECK((!pair.sender.machine.is_over() || pair.now >= end - milliseconds(3000)));
      pair.now += milliseconds(500);
      pair.sender.machine.on_tick(pair.now);
      pair.receiver.machine.on_tick(pair.now);
      run();
    }
    REQUIRE(pair.sender.machine.state() == HandoffSender::State::kFailed);
    require_timeout(c.word, pair.sender.machine.error());
  }
}

TEST_CASE("a receiver gives up a sender that lives and sends nothing more") {
  const auto sequence = empty_sequence(kGeometry);
  MachinePair pair(make_offer(kGeometry, 300), kSource, sequence);
  REQUIRE(pair.sender.machine.publish(0, 0, 100).ok());
  pair.run();
  pass(pair, HandoffTimeouts().stall - milliseconds(1000), true);
  CHECK_FALSE(pair.receiver.machine.is_over());
  pass(pair, milliseconds(3000), true);
  REQUIRE(pair.receiver.machine.state() == HandoffReceiver::State::kFailed);
  require_timeout("no block, and no end", pair.receiver.machine.error(0));
  require_timeout("no block, and no end", pair.sender.machine.error());
  CHECK(sequence->pool()->free_blocks() == sequence->pool()->capacity_blocks());
}

TEST_CASE("bytes of a frame that is still coming are a sign of life") {
  const auto sequence = empty_sequence(kGeometry);
  MachinePair pair(make_offer(kGeometry, 300), kSource, sequence);
  pair.run();
  for (int i = 0; i < 200; ++i) {
    pair.now += milliseconds(500);
    pair.sender.machine.on_bytes(pair.now);
    pair.receiver.machine.on_bytes(0, pair.now);
    pair.sender.machine.on_tick(pair.now);
    pair.receiver.machine.on_tick(pair.now);
  }
  pair.hand_over();
  CHECK(pair.sender.machine.state() == HandoffSender::State::kCommitted);
}
