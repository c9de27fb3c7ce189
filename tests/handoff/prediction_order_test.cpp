// Blocks that are predicted from others, in any order.
#include <algorithm>
#include <random>

#include <catch2/catch.hpp>

#include "kvferry/codec/block_format.hpp"

#include "coder_fixture.hpp"
#include "machines.hpp"

using namespace kvferry;
using namespace kvferry::testing;

namespace {

constexpr std::uint32_t kTokens = 40;
constexpr wire::FrameAddress kAddress = {1, 1, 1};

KvRange range_of(std::uint32_t layer, Plane plane, std::uint32_t begin, std::uint32_t end) {
  return {layer, plane, begin, end};
}

// Encodes blocks in the order of the layers, and knows what a decoder makes of them.
class Stream {
 public:
  explicit Stream(std::uint16_t source = 1)
      : source_(source),
        encoder_(geometry_, coder_.codebook, {coder_.predictor, ordered_product}),
        decoder_(geometry_, coder_.codebook, {coder_.predictor, ordered_product}) {}

  // The next block; `profile`, kLow unless said otherwise.
  wire::Frame block(const KvRange& range, Profile profile = Profile::kLow) {
    const KnownSource source(geometry_);
    std::vector<std::uint8_t> rows(range.tokens() * geometry_.row_bytes());
    REQUIRE(source.read(range, rows).ok());
    std::vector<std::uint8_t> coded(maximum_encoded_size(geometry_, range.tokens()));
    BlockSpec spec;
    spec.profile = profile;
    spec.range = range;
    coded.resize(encoder_.encode(spec, rows, coded).value().total());
    predicted_ += parse_block_header(coded).value().predictor != 0 ? 1 : 0;
    REQUIRE(decoder_.decode({range, 0}, coded, rows).ok());
    rows_.emplace_back(range, rows);
    wire::FrameAddress address = kAddress;
    address.source = source_;
    return to_frame(
        outgoing_block(address, range, static_cast<std::uint8_t>(profile), std::move(coded))
            .value());
  }
  // Every layer of each of the ranges of tokens, in order.
  std::vector<wire::Frame> blocks(
      const std::vector<std::pair<std::uint32_t, std::uint32_t>>& ranges) {
    std::vector<wire::Frame> frames;
    for (const auto& tokens : ranges) {
      for (std::uint32_t layer = 0; layer < geometry_.layers; ++layer) {
        for (const Plane plane : {Plane::kKey, Plane::kValue})
          frames.push_back(block(range_of(layer, plane, tokens.first, tokens.second)));
      }
    }
    return frames;
  }

  bool matches(const KvSequence& sequence) const {
    for (const auto& [range, rows] : rows_) {
      std::vector<std::uint8_t> got(rows.size());
      if (!sequence.read(range, sequence.generation(), got).ok() || got != rows) return false;
    }
    return true;
  }
  std::size_t predicted() const { return predicted_; }
  const Coder& coder() const { return coder_; }

 private:
  const Coder coder_ = test_coder();
  const KvGeometry geometry_ = handoff_geometry();
  std::uint16_t source_;
  BlockEncoder encoder_;
  BlockDecoder decoder_;
  std::vector<std::pair<KvRange, std::vector<std::uint8_t>>> rows_;
  std::size_t predicted_ = 0;
};

wire::Offer predicted_offer(const Coder& coder) {
  wire::Offer offer = make_offer(handoff_geometry(), kTokens);
  offer.profile = static_cast<std::uint8_t>(Profile::kLow);
  offer.codebook = coder.codebook->id();
  offer.codebook_bytes = static_cast<std::uint32_t>(coder.codebook->bytes().size());
  offer.predictor = coder.predictor->id();
  offer.predictor_bytes = static_cast<std::uint32_t>(coder.predictor->bytes().size());
  return offer;
}

// A receiver that has accepted, with its answer taken.
class Receiver {
 public:
  explicit Receiver(const Coder& coder, const ReceiverOptions& options = {})
      : Receiver(coder, predicted_offer(coder), options) {}
  Receiver(const Coder& coder, const wire::Offer& offer, const ReceiverOptions& options)
      : sequence(empty_sequence(handoff_geometry())),
        end(sequence, handoff_identity(), options, {},
            {coder.codebook,
             {coder.predictor, ordered_product},
             {wire::ModelDataAnswer::kHas, wire::ModelDataAnswer::kHas}}) {
    end.machine.add_link(now);
    send(to_frame(outgoing(wire::MessageType::kOffer, kAddress, offer)));
    work();
    REQUIRE(end.machine.state() == HandoffReceiver::State::kReceiving);
  }

  void send(wire::Frame frame) { end.machine.on_frame(0, std::move(frame), now); }
  void send_end(const std::vector<wire::Frame>& frames) {
    wire::HandoffDigest digest;
    wire::End message;
    for (const wire::Frame& frame : frames) {
      digest.add(kAddress.source, wire::parse_block(frame.payload).value(),
                 frame.header.payload_hash);
      message.payload_bytes += frame.payload.size();
    }
    message.blocks = frames.size();
    message.digest = digest.value();
    end.machine.on_frame(0, to_frame(outgoing(wire::MessageType::kEnd, kAddress, message)), now);
  }
  void work() {
    while (end.work(now)) {
    }
  }
  // The error of a hand-off that failed.
  Error failure() {
    work();
    REQUIRE(end.machine.state() == HandoffReceiver::State::kFailed);
    CHECK(sequence->length() == 0);
    return end.machine.error(0);
  }

  const TimePoint now{std::chrono::hours(1)};
  std::shared_ptr<KvSequence> sequence;
  ReceivingEnd end;
};

}  // namespace

TEST_CASE("predicted blocks in any order give the same cache") {
  for (std::uint32_t seed = 1; seed <= 80; ++seed) {
    CAPTURE(seed);
    std::mt19937 random(seed);
    Stream stream;
    std::vector<wire::Frame> frames = stream.blocks({{0, 16}, {16, 32}, {32, kTokens}});
    REQUIRE(stream.predicted() == 3 * 5);
    const std::vector<wire::Frame> in_order = frames;
    // Anything from a few blocks out of place to all of them.
    for (std::size_t i = frames.size(); i > 1; --i) {
      const std::size_t reach = 1 + seed % i;
      std::swap(frames[i - 1], frames[i - 1 - random() % reach]);
    }
    Receiver receiver(stream.coder());
    for (const wire::Frame& frame : frames) {
      receiver.send(frame);
      if (random() % 4 == 0) receiver.send(frames[random() % frames.size()]);  // maybe again
      for (auto n = random() % 3; n > 0; --n) receiver.end.work(receiver.now);
    }
    receiver.send_end(in_order);
    receiver.work();
    REQUIRE(receiver.end.machine.state() == HandoffReceiver::State::kCommitted);
    CHECK(receiver.sequence->length() == kTokens);
    CHECK(stream.matches(*receiver.sequence));
  }
}

TEST_CASE("a block whose inputs can never come is refused at once, by name") {
  Stream stream;
  const auto refused = [&](Receiver& receiver, const std::string& why) {
    const Error error = receiver.failure();
    INFO(error.message);
    CHECK(error.code == ErrorCode::kProtocol);
    CHECK(error.message.find("is predicted from") != std::string::npos);
    CHECK(error.message.find(why) != std::string::npos);
  };
  const wire::Frame k0 = stream.block(range_of(0, Plane::kKey, 0, 16));
  const wire::Frame v0 = stream.block(range_of(0, Plane::kValue, 0, 16));
  const wire::Frame k1 = stream.block(range_of(1, Plane::kKey, 0, 16));
  const wire::Frame other_cut = Stream().block(range_of(0, Plane::kValue, 8, 24));
  const wire::Frame longer = Stream().block(range_of(0, Plane::kValue, 0, 20));
  const wire::Frame shorter = Stream().block(range_of(0, Plane::kValue, 0, 8));
  const wire::Frame lossless =
      Stream().block(range_of(0, Plane::kValue, 0, 16), Profile::kLossless);
  REQUIRE(stream.predicted() == 2);
  for (const bool inputs_first : {true, false}) {
    for (const wire::Frame& input : {other_cut, longer, shorter}) {
      Receiver receiver(stream.coder());
      receiver.send(k0);
      receiver.send(inputs_first ? input : k1);
      receiver.send(inputs_first ? k1 : input);
      refused(receiver, "tokens");
    }
    Receiver receiver(stream.coder());
    receiver.send(inputs_first ? lossless : k1);
    receiver.send(inputs_first ? k1 : lossless);
    refused(receiver, "by a method");
  }
  {  // Two that cannot both be served.
    Stream second;
    second.block(range_of(0, Plane::kKey, 8, 24));
    second.block(range_of(0, Plane::kValue, 8, 24));
    second.block(range_of(1, Plane::kKey, 8, 24));
    Receiver receiver(stream.coder());
    receiver.send(k1);  // [0, 16)
    receiver.send(second.block(range_of(1, Plane::kValue, 8, 24)));
    const Error error = receiver.failure();
    CHECK(error.code == ErrorCode::kProtocol);
  }
  {  // The inputs are another source's.
    wire::Offer offer = predicted_offer(stream.coder());
    offer.coverage = {{2, 0, 1, 0, kTokens}, {1, 1, 3, 0, kTokens}};
    Receiver receiver(stream.coder(), offer, {});
    receiver.send(k1);
    refused(receiver, "did not declare");
  }
}

TEST_CASE("blocks that wait are bounded by half of the credit") {
  Stream stream;
  const std::vector<wire::Frame> frames = stream.blocks({{0, 16}, {16, 32}, {32, kTokens}});
  std::uint64_t bytes = 0;
  for (const wire::Frame& frame : frames) bytes += frame.payload.size();
  ReceiverOptions options;
  options.credit = bytes;
  {
    Receiver receiver(stream.coder(), options);
    std::size_t sent = 0;
    for (std::size_t i = 0; i < frames.size(); ++i, ++sent) {
      if (i % 6 == 0) continue;  // K of layer 0, from which all others are predicted
      receiver.send(frames[i]);
      if (receiver.end.machine.is_over()) break;
    }
    CHECK(receiver.failure().code == ErrorCode::kResourceExhausted);
    CHECK(sent > 3);
    CHECK(sent < frames.size());
  }
  {  // In order there is always something to decode, however slowly that goes.
    Receiver receiver(stream.coder(), options);
    for (const wire::Frame& frame : frames) receiver.send(frame);
    receiver.send_end(frames);
    receiver.work();
    CHECK(receiver.end.machine.state() == HandoffReceiver::State::kCommitted);
    CHECK(stream.matches(*receiver.sequence));
  }
}
