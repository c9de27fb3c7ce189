// What goes wrong on the way: lost connections, changed and missing bytes, duplicates, lies.
#include <algorithm>
#include <set>

#include <catch2/catch.hpp>

#include "machines.hpp"

using namespace kvferry;
using namespace kvferry::testing;

namespace {

const KvGeometry kGeometry = handoff_geometry();
const KnownSource kSource(kGeometry);

// Small, but with several blocks, credit and a first token.
constexpr std::uint32_t kTokens = 70;
wire::Offer small_offer() {
  wire::Offer offer = make_offer(kGeometry, kTokens);
  offer.decode.emplace();
  return offer;
}
ReceiverOptions small_window() {
  ReceiverOptions options;
  options.credit = 4000;
  return options;
}

struct Run {
  explicit Run(std::shared_ptr<KvSequence> s = empty_sequence(kGeometry))
      : sequence(std::move(s)),
        pair(small_offer(), kSource, sequence, small_window(), {}, terms_of(*sequence)) {}

  static HandoffTerms terms_of(const KvSequence& sequence) {
    HandoffTerms terms;
    terms.generation = sequence.generation();
    return terms;
  }
  void go() {
    publish_all(pair.sender.machine, small_offer(), 1);
    const Status ignored = pair.sender.machine.send_first_token({});
    static_cast<void>(ignored);
    pair.run();
  }
  HandoffSender& sender() { return pair.sender.machine; }
  HandoffReceiver& receiver() { return pair.receiver.machine; }
  bool committed() {
    return receiver().state() == HandoffReceiver::State::kCommitted &&
           sequence->length() == kTokens && holds_known_rows(*sequence, 0, kTokens);
  }
  bool untouched() const {
    return sequence->length() == 0 &&
           sequence->pool()->free_blocks() == sequence->pool()->capacity_blocks();
  }

  std::shared_ptr<KvSequence> sequence;
  MachinePair pair;
};

// Changes the payload of a frame that carries `Message`.
template <typename Message, typename Change>
void rewrite(wire::Frame& frame, Result<Message> (*parse)(Bytes), Change change) {
  Message message = parse(frame.payload).value();
  change(message);
  std::vector<std::uint8_t> payload;
  REQUIRE(wire::serialize(message, payload).ok());
  frame.payload = payload;
  frame.header = wire::make_header(frame.header.type, frame.header.address, payload);
}

// The outcome when the receiver, or the sender, sees frames changed by `filter`.
void require_failure(const MachinePair::Filter& filter, ErrorCode code, const std::string& word) {
  Run run;
  run.pair.filter = filter;
  run.go();
  REQUIRE(run.sender().state() == HandoffSender::State::kFailed);
  INFO(run.sender().error().message);
  CHECK(run.sender().error().code == code);
  CHECK(run.sender().error().message.find(word) != std::string::npos);
  if (run.receiver().state() != HandoffReceiver::State::kCommitted) {
    REQUIRE(run.receiver().state() == HandoffReceiver::State::kFailed);
    CHECK(run.receiver().error(0).code == code);
    CHECK(run.untouched());
  }
}

// Everything that the sender of a clean run sends, as bytes.
std::vector<std::uint8_t> sent_stream(bool by_sender) {
  std::vector<std::uint8_t> stream;
  Run run;
  run.pair.filter = [&](const wire::Frame& frame, bool from_sender) {
    if (from_sender == by_sender)
      wire::write_frame(frame.header.type, frame.header.address, frame.payload, stream);
    return true;
  };
  run.go();
  REQUIRE(run.committed());
  return stream;
}

// Feeds `stream` to a fresh receiver, as a connection would, and ends the connection.
struct Replay {
  explicit Replay(Bytes stream)
      : sequence(empty_sequence(kGeometry)), end(sequence, handoff_identity(), {}) {
    const TimePoint now{};
    end.machine.add_link(now);
    wire::FrameDecoder decoder;
    while (!stream.empty()) {
      const auto used = decoder.feed(stream);
      if (!used.ok()) {
        end.machine.on_malformed(0, used.error());
        break;
      }
      stream = stream.subspan(*used);
      if (decoder.has_frame()) end.machine.on_frame(0, decoder.take(), now);
      while (end.work(now) || end.machine.take_frame(0, now)) {
      }
    }
    const Status ended = decoder.finish();
    end.machine.on_broken(
        0, ended.ok() ? Error(ErrorCode::kClosed, "the peer closed") : ended.error());
    end.work(now);
  }
  bool committed() const { return end.machine.state() == HandoffReceiver::State::kCommitted; }
  bool failed() const {
    return (end.machine.state() == HandoffReceiver::State::kFailed ||
            end.machine.state() == HandoffReceiver::State::kWaiting) &&
           !end.machine.error(0).message.empty() && sequence->length() == 0 &&
           sequence->pool()->free_blocks() == sequence->pool()->capacity_blocks();
  }
  std::shared_ptr<KvSequence> sequence;
  ReceivingEnd end;
};

}  // namespace

TEST_CASE("the connection is lost before any one frame arrives") {
  std::uint64_t frames = 0;
  {
    Run clean;
    clean.go();
    REQUIRE(clean.committed());
    frames = clean.pair.frames;
  }
  CHECK(frames > 15);
  for (std::uint64_t lost = 1; lost <= frames; ++lost) {
    INFO("frame " << lost << " of " << frames);
    Run run;
    run.pair.filter = [&](const wire::Frame&, bool) { return run.pair.frames != lost; };
    run.go();
    REQUIRE(run.sender().state() == HandoffSender::State::kFailed);
    CHECK(run.sender().error().code == ErrorCode::kClosed);
    if (lost == frames) {  // COMMITTED itself
      CHECK(run.committed());
      CHECK(run.sender().error().message.find("not known") != std::string::npos);
    } else {
      REQUIRE(run.receiver().error(0).code == ErrorCode::kClosed);
      CHECK(run.untouched());
      Run again(run.sequence);
      again.go();
      CHECK(again.committed());
    }
  }
}

TEST_CASE("either end cancels before any one frame arrives") {
  for (const bool by_sender : {true, false}) {
    for (std::uint64_t at = 1; at < 60; ++at) {
      INFO((by_sender ? "sender" : "receiver") << " at frame " << at);
      Run run;
      run.pair.filter = [&](const wire::Frame&, bool) {
        const Error reason(ErrorCode::kCancelled, "enough");
        if (run.pair.frames == at && by_sender) run.sender().cancel(reason);
        if (run.pair.frames == at && !by_sender) run.receiver().cancel(reason);
        return true;
      };
      run.go();
      REQUIRE(run.sender().is_over());
      REQUIRE((run.receiver().is_over() || at == 1));
      if (run.committed()) continue;  // too late, and then both know or the sender does not
      CHECK(run.sender().error().code == ErrorCode::kCancelled);
      CHECK(run.untouched());
      Run again(run.sequence);
      again.go();
      CHECK(again.committed());
    }
  }
}

TEST_CASE("a stream that ends at any byte is never taken as complete") {
  const std::vector<std::uint8_t> stream = sent_stream(true);
  REQUIRE(Replay(stream).committed());
  for (std::size_t length = 0; length < stream.size(); ++length) {
    const Replay replay(Bytes(stream).first(length));
    if (!replay.failed()) FAIL("cut after " << length << " of " << stream.size() << " bytes");
  }
}

TEST_CASE("any one flipped bit is found") {
  std::vector<std::uint8_t> stream = sent_stream(true);
  // Every bit of the first frames and of the last, one in seven of the blocks between.
  for (std::size_t bit = 0; bit < stream.size() * 8;
       bit += bit < 8000 || bit + 2000 > stream.size() * 8 ? 1 : 7) {
    stream[bit / 8] ^= static_cast<std::uint8_t>(1u << bit % 8);
    const Replay replay(stream);
    if (!replay.failed()) FAIL("bit " << bit % 8 << " of byte " << bit / 8);
    stream[bit / 8] ^= static_cast<std::uint8_t>(1u << bit % 8);
  }
}

TEST_CASE("a sender does not take changed or missing answers for a commit") {
  std::vector<std::uint8_t> answers = sent_stream(false);
  const auto commits = [&](Bytes stream) {
    // A sender that has sent everything: all answers come at once.
    SenderOptions options;
    options.address = {1, 1, 1};
    const TimePoint now{};
    SendingEnd end(small_offer(), kSource, options, now);
    publish_all(end.machine, small_offer(), 1);
    REQUIRE(end.machine.send_first_token({}).ok());
    wire::FrameDecoder decoder;
    while (!stream.empty()) {
      const auto used = decoder.feed(stream);
      if (!used.ok()) {
        end.machine.on_malformed(used.error());
        break;
      }
      stream = stream.subspan(*used);
      if (decoder.has_frame()) end.machine.on_frame(decoder.take(), now);
      while (end.work() || end.machine.take_frame(now)) {
      }
    }
    end.machine.on_broken(Error(ErrorCode::kClosed, "the peer closed"));
    return end.machine.state() == HandoffSender::State::kCommitted;
  };
  REQUIRE(commits(answers));
  for (std::size_t length = 0; length < answers.size(); ++length)
    CHECK_FALSE(commits(Bytes(answers).first(length)));
  for (std::size_t bit = 0; bit < answers.size() * 8;
       bit += bit < 800 || bit + 800 > answers.size() * 8 ? 1 : 5) {
    answers[bit / 8] ^= static_cast<std::uint8_t>(1u << bit % 8);
    if (commits(answers)) FAIL("bit " << bit % 8 << " of byte " << bit / 8);
    answers[bit / 8] ^= static_cast<std::uint8_t>(1u << bit % 8);
  }
}

TEST_CASE("a block that comes twice is dropped, one that contradicts another is an error") {
  {
    Run run;
    run.pair.filter = [&](const wire::Frame& frame, bool) {
      if (frame.header.type == wire::MessageType::kBlock) run.receiver().on_frame(0, frame, {});
      return true;
    };
    // Twice the bytes pass, which the credit has to allow.
    run.go();
    CHECK(run.committed());
    CHECK(run.receiver().frames_dropped() == run.sender().blocks_sent());
  }
  require_failure(
      [](wire::Frame& frame, bool) {
        if (frame.header.type == wire::MessageType::kBlock)
          rewrite<wire::Block>(frame, wire::parse_block,
                               [](wire::Block& b) { b.begin = b.begin / 2; });
        return true;
      },
      ErrorCode::kProtocol, "came before in another block");
}

TEST_CASE("blocks may come in any order") {
  for (std::uint32_t seed = 0; seed < 20; ++seed) {
    Run run;
    std::vector<wire::Frame> held;
    std::mt19937 random(seed);
    run.pair.filter = [&](wire::Frame& frame, bool from_sender) {
      if (!from_sender || run.receiver().state() != HandoffReceiver::State::kReceiving) return true;
      if (frame.header.type == wire::MessageType::kBlock) {
        held.push_back(frame);
        std::shuffle(held.begin(), held.end(), random);
        frame = held.back();  // one of those held travels instead
        held.pop_back();
      }
      return true;
    };
    run.go();
    CHECK(run.committed());
  }
}

TEST_CASE("frames of another hand-off, attempt or source are dropped") {
  Run run;
  run.pair.filter = [&](const wire::Frame& frame, bool from_sender) {
    if (frame.header.type == wire::MessageType::kOffer) return true;
    for (int i = 0; i < 3; ++i) {
      wire::Frame stray = frame;
      if (i == 0) stray.header.address.handoff = 7;
      if (i == 1) stray.header.address.epoch = 0;
      if (i == 2) stray.header.address.source = 2;
      if (from_sender) {
        run.receiver().on_frame(0, stray, {});
      } else {
        run.sender().on_frame(stray, {});
      }
    }
    return true;
  };
  run.go();
  CHECK(run.committed());
  CHECK(run.sender().state() == HandoffSender::State::kCommitted);
  CHECK(run.receiver().frames_dropped() == 3 * (run.sender().blocks_sent() + 2));
}

TEST_CASE("what an end says must be true") {
  const auto change_end = [](void (*change)(wire::End&)) {
    return [change](wire::Frame& frame, bool) {
      if (frame.header.type == wire::MessageType::kEnd)
        rewrite<wire::End>(frame, wire::parse_end, change);
      return true;
    };
  };
  require_failure(change_end([](wire::End& e) { e.blocks += 1; }), ErrorCode::kIncomplete,
                  "counts");
  require_failure(change_end([](wire::End& e) { e.payload_bytes -= 1; }), ErrorCode::kIncomplete,
                  "counts");
  require_failure(change_end([](wire::End& e) { e.digest ^= 1; }), ErrorCode::kChecksum, "digest");

  // A block that never arrives: the first missing row is named.
  Run run;
  bool dropped = false;
  run.pair.filter = [&](wire::Frame& frame, bool) {
    if (frame.header.type == wire::MessageType::kBlock && !dropped) {
      dropped = true;
      frame.header.address.epoch = 99;
    }
    return true;
  };
  run.go();
  CHECK(run.receiver().error(0).code == ErrorCode::kIncomplete);
  CHECK(run.receiver().error(0).message.find("layer 0 K tokens [0, 1)") != std::string::npos);
  CHECK(run.untouched());
}

TEST_CASE("an answer must make sense") {
  const auto change_accept = [](void (*change)(wire::Accept&)) {
    return [change](wire::Frame& frame, bool) {
      if (frame.header.type == wire::MessageType::kAccept)
        rewrite<wire::Accept>(frame, wire::parse_accept, change);
      return true;
    };
  };
  require_failure(change_accept([](wire::Accept& a) { a.held_prefix = kTokens + 1; }),
                  ErrorCode::kProtocol, "prefix");
  require_failure(change_accept([](wire::Accept& a) { a.held_prefix = 10; }), ErrorCode::kMismatch,
                  "begins at token 10");
  require_failure(change_accept([](wire::Accept& a) { a.profiles = 1; }), ErrorCode::kUnsupported,
                  "lossless");
  require_failure(change_accept([](wire::Accept& a) { a.credit = 0; }),
                  ErrorCode::kResourceExhausted, "at a time");
  require_failure(
      [](wire::Frame& frame, bool) {
        if (frame.header.type == wire::MessageType::kCredit)
          rewrite<wire::Credit>(frame, wire::parse_credit, [](wire::Credit& c) { c.total = 1; });
        return true;
      },
      ErrorCode::kProtocol, "takes back");
  const auto change_committed = [](void (*change)(wire::Committed&)) {
    return [change](wire::Frame& frame, bool) {
      if (frame.header.type == wire::MessageType::kCommitted)
        rewrite<wire::Committed>(frame, wire::parse_committed, change);
      return true;
    };
  };
  require_failure(change_committed([](wire::Committed& c) { c.digest ^= 1; }), ErrorCode::kChecksum,
                  "digests differ");
  require_failure(change_committed([](wire::Committed& c) { c.length = kTokens - 1; }),
                  ErrorCode::kIncomplete, "69 tokens");
}

TEST_CASE("a sender that exceeds its credit is cut off") {
  Run run;
  publish_all(run.sender(), small_offer(), 1);
  while (run.receiver().state() != HandoffReceiver::State::kReceiving) REQUIRE(run.pair.step());
  // Blocks come, and none is decoded: no room gets free.
  const wire::FrameAddress address{1, 1, 1};
  for (std::uint32_t at = 0; at < kTokens && !run.receiver().is_over(); at += 10) {
    run.receiver().on_frame(0,
                            to_frame(outgoing_block(address, KvRange{0, Plane::kKey, at, at + 10},
                                                    0, std::vector<std::uint8_t>(988))
                                         .value()),
                            {});
    CHECK(run.receiver().is_over() == (at == 40));
  }
  REQUIRE(run.receiver().state() == HandoffReceiver::State::kFailed);
  CHECK(run.receiver().error(0).code == ErrorCode::kProtocol);
  CHECK(run.receiver().error(0).message.find("beyond the credit") != std::string::npos);
}

TEST_CASE("any message at any moment leaves a result or a named error") {
  std::vector<wire::Frame> samples;
  {
    Run run;
    run.pair.filter = [&](const wire::Frame& frame, bool) {
      samples.push_back(frame);
      return true;
    };
    run.go();
  }
  const wire::FrameAddress address{1, 1, 1};
  samples.push_back(to_frame(outgoing(wire::MessageType::kHello, {}, wire::Hello{})));
  samples.push_back(to_frame(outgoing(wire::MessageType::kPing, {}, wire::Ping{})));
  samples.push_back(to_frame(outgoing(wire::MessageType::kPong, {}, wire::Pong{})));
  samples.push_back(to_frame(outgoing(wire::MessageType::kGoodbye, {}, wire::Goodbye{})));
  samples.push_back(to_frame(outgoing_error({}, Error(ErrorCode::kIo, "x"))));
  samples.push_back(to_frame(outgoing_error(address, Error(ErrorCode::kIo, "x"))));
  samples.push_back(to_frame(outgoing_cancel(address, Error(ErrorCode::kIo, "x"))));
  wire::ModelData data;  // nobody asked for it
  const std::vector<std::uint8_t> piece = {1, 2, 3};
  data.id = 7;
  data.total = 9;
  data.bytes = piece;
  samples.push_back(to_frame(outgoing(wire::MessageType::kModelData, address, data)));
  samples.push_back(to_frame(outgoing(wire::MessageType::kModelData, {}, data)));
  samples.push_back(to_frame(outgoing(wire::MessageType::kAttach, {}, wire::Attach{})));
  for (const wire::MessageType type :
       {wire::MessageType::kBlock, wire::MessageType::kEnd, wire::MessageType::kAccept,
        wire::MessageType::kCredit, wire::MessageType::kCommitted, wire::MessageType::kOffer,
        wire::MessageType::kFirstToken, wire::MessageType::kError, wire::MessageType::kCancel,
        wire::MessageType::kModelData}) {
    wire::Frame broken;  // a payload that is none
    broken.payload = {1, 2, 3};
    broken.header = wire::make_header(type, address, broken.payload);
    samples.push_back(broken);
  }
  for (std::uint64_t at = 1; at <= 30; ++at) {
    for (std::size_t sample = 0; sample < samples.size(); ++sample) {
      for (const bool to_receiver : {true, false}) {
        INFO("sample " << sample << " (" << wire::name_of(samples[sample].header.type)
                       << ") before frame " << at << " to the "
                       << (to_receiver ? "receiver" : "sender"));
        Run run;
        run.pair.filter = [&](const wire::Frame&, bool) {
          if (run.pair.frames != at) return true;
          if (to_receiver) {
            run.receiver().on_frame(0, samples[sample], {});
          } else {
            run.sender().on_frame(samples[sample], {});
          }
          return true;
        };
        run.go();
        run.pair.disconnect();
        run.pair.run();
        REQUIRE(run.sender().is_over());
        REQUIRE(run.receiver().is_over(0));
        const bool done = run.receiver().state() == HandoffReceiver::State::kCommitted;
        CHECK((done ? run.committed() : run.untouched()));
        if (run.sender().state() == HandoffSender::State::kFailed)
          CHECK_FALSE(run.sender().error().message.empty());
      }
    }
  }
}

TEST_CASE("a peer that asks and does not listen cannot make an end hold its answers") {
  Run run;
  const wire::Frame ping = to_frame(outgoing(wire::MessageType::kPing, {}, wire::Ping{}));
  for (int i = 0; i < 100000; ++i) {
    run.sender().on_frame(ping, {});
    run.receiver().on_frame(0, ping, {});
  }
  std::size_t waiting = 0;
  while (run.sender().take_frame({})) ++waiting;
  while (run.receiver().take_frame(0, {})) ++waiting;
  CHECK(waiting <= 2 * PeerWatch::kMaxWaiting + 2);
}
