// One hand-off from several sources, at the level of the receiving state machine.
#include <catch2/catch.hpp>

#include "machines.hpp"

using namespace kvferry;
using namespace kvferry::testing;

namespace {

const KvGeometry kGeometry = handoff_geometry();
const KnownSource kSource(kGeometry);
const TimePoint kNow{};

// Layers 0 and 1 of all tokens from source 1; layer 2 is split between sources 2 and 3.
wire::Offer split_offer() {
  wire::Offer offer = make_offer(kGeometry, 90);
  offer.coverage = {{1, 0, 2, 0, 90}, {2, 2, 3, 0, 50}, {3, 2, 3, 50, 90}};
  return offer;
}

struct Sources {
  Sources() : sequence(empty_sequence(kGeometry)), receiver(sequence, handoff_identity()) {}

  // Connects source `id`; returns its place in `senders`.
  std::size_t connect(std::uint16_t id, const wire::Offer& offer = split_offer(),
                      std::uint32_t epoch = 1) {
    SenderOptions options;
    options.address = {std::uint64_t{100} + id, epoch, id};
    senders.push_back(std::make_unique<SendingEnd>(offer, kSource, options, kNow));
    publish_all(senders.back()->machine, offer, id);
    receiver.machine.add_link(kNow);
    return senders.size() - 1;
  }

  void run() {
    for (bool moved = true; moved;) {
      moved = receiver.work(kNow);
      for (std::size_t i = 0; i < senders.size(); ++i) {
        moved = senders[i]->work() || moved;
        if (auto frame = receiver.machine.take_frame(i, kNow)) {
          senders[i]->machine.on_frame(to_frame(*std::move(frame)), kNow);
          moved = true;
        }
        if (auto frame = senders[i]->machine.take_frame(kNow)) {
          receiver.machine.on_frame(i, to_frame(*std::move(frame)), kNow);
          moved = true;
        }
      }
    }
  }

  HandoffSender& sender(std::size_t i) { return senders[i]->machine; }
  bool committed() const {
    return receiver.machine.state() == HandoffReceiver::State::kCommitted &&
           holds_known_rows(*sequence, 0, 90);
  }

  std::shared_ptr<KvSequence> sequence;
  ReceivingEnd receiver;
  std::vector<std::unique_ptr<SendingEnd>> senders;
};

}  // namespace

TEST_CASE("three sources fill one cache, whichever comes first") {
  for (const auto& order : std::vector<std::vector<std::uint16_t>>{{1, 2, 3}, {3, 1, 2}}) {
    Sources sources;
    for (const std::uint16_t id : order) {
      sources.connect(id);
      sources.run();
      if (sources.senders.size() < 3) CHECK_FALSE(sources.receiver.machine.is_over());
    }
    CHECK(sources.committed());
    for (std::size_t i = 0; i < 3; ++i)
      CHECK(sources.sender(i).state() == HandoffSender::State::kCommitted);
  }
}

TEST_CASE("a source that does not belong is turned away, and harms nobody") {
  struct Case {
    const char* word;
    std::uint16_t id;
    std::uint32_t epoch;
    void (*change)(wire::Offer&);
  };
  for (const Case& c : {Case{"connected already", 1, 1, [](wire::Offer&) {}},
                        Case{"attempt", 2, 2, [](wire::Offer&) {}},
                        Case{"different offers", 2, 1, [](wire::Offer& o) { o.tokens[3] += 1; }}}) {
    INFO(c.word);
    Sources sources;
    sources.connect(1);
    sources.run();
    wire::Offer other = split_offer();
    c.change(other);
    const std::size_t stray = sources.connect(c.id, other, c.epoch);
    sources.run();
    REQUIRE(sources.sender(stray).state() == HandoffSender::State::kFailed);
    CHECK(sources.sender(stray).error().message.find(c.word) != std::string::npos);
    CHECK(sources.receiver.machine.is_over(stray));
    CHECK_FALSE(sources.receiver.machine.is_over());
    sources.connect(2);
    sources.connect(3);
    sources.run();
    CHECK(sources.committed());
  }
}

TEST_CASE("a connection that ends before its offer harms nobody") {
  wire::ErrorMessage error;
  error.code = ErrorCode::kInternal;
  error.text = "the stray has no memory";
  for (const OutgoingFrame& last : {outgoing(wire::MessageType::kError, {}, error),
                                    outgoing(wire::MessageType::kGoodbye, {}, wire::Goodbye())}) {
    Sources sources;
    sources.connect(1);
    sources.run();
    const std::size_t stray = sources.receiver.machine.add_link(kNow);
    sources.receiver.machine.on_frame(stray, to_frame(last), kNow);
    CHECK(sources.receiver.machine.is_over(stray));
    CHECK(sources.receiver.machine.error(stray).message.find("the sender") == 0);
    CHECK_FALSE(sources.receiver.machine.is_over());
  }
}

TEST_CASE("a source that comes when all is over is told so") {
  Sources sources;
  for (const std::uint16_t id : std::vector<std::uint16_t>{1, 2, 3}) sources.connect(id);
  sources.run();
  REQUIRE(sources.committed());
  const std::size_t late = sources.connect(2);
  sources.run();
  CHECK(sources.sender(late).state() == HandoffSender::State::kFailed);
  CHECK(sources.sender(late).error().message.find("over") != std::string::npos);
}

TEST_CASE("when one source fails, the others are told and nothing is committed") {
  Sources sources;
  for (const std::uint16_t id : std::vector<std::uint16_t>{1, 2}) sources.connect(id);
  sources.run();
  sources.receiver.machine.on_broken(1, Error(ErrorCode::kClosed, "the cable is out"));
  sources.run();
  REQUIRE(sources.sender(0).state() == HandoffSender::State::kFailed);
  CHECK(sources.sender(0).error().message.find("the cable is out") != std::string::npos);
  CHECK(sources.sequence->length() == 0);
  CHECK(sources.sequence->pool()->free_blocks() == sources.sequence->pool()->capacity_blocks());
}

TEST_CASE("a source cannot send what another one declared") {
  Sources sources;
  sources.connect(1);
  sources.run();
  SenderOptions options;
  options.address = {102, 1, 2};
  const wire::Offer offer = split_offer();
  sources.receiver.machine.add_link(kNow);
  sources.receiver.machine.on_frame(
      1, to_frame(outgoing(wire::MessageType::kOffer, options.address, offer)), kNow);
  std::vector<std::uint8_t> coded(10);
  const KvRange range{2, Plane::kKey, 40, 60};  // up to 50 is its own
  sources.receiver.machine.on_frame(
      1, to_frame(outgoing_block(options.address, range, 1, coded).value()), kNow);
  REQUIRE(sources.receiver.machine.state() == HandoffReceiver::State::kFailed);
  CHECK(sources.receiver.machine.error(1).code == ErrorCode::kProtocol);
  CHECK(sources.receiver.machine.error(1).message.find("did not declare") != std::string::npos);
}
