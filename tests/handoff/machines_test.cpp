#include "machines.hpp"

#include <catch2/catch.hpp>

using namespace kvferry;
using namespace kvferry::testing;

namespace {

const KvGeometry kGeometry = handoff_geometry();
const KnownSource kSource(kGeometry);

wire::Offer decode_offer(std::uint32_t tokens) {
  wire::Offer offer = make_offer(kGeometry, tokens);
  offer.decode.emplace();
  return offer;
}

wire::FirstToken first_token() {
  wire::FirstToken token;
  token.token = 42;
  return token;
}

// Both ends committed, and the cache is the source's.
void require_committed(MachinePair& pair, const KvSequence& sequence, std::uint32_t tokens) {
  REQUIRE(pair.sender.machine.state() == HandoffSender::State::kCommitted);
  REQUIRE(pair.receiver.machine.state() == HandoffReceiver::State::kCommitted);
  CHECK(sequence.length() == tokens);
  CHECK(sequence.tokens() == some_tokens(tokens));
  CHECK(holds_known_rows(sequence, 0, tokens));
  CHECK(pair.sender.machine.committed().length == tokens);
  CHECK(pair.sender.machine.committed().generation == sequence.generation());
}

// Both ends failed with that code, and the cache is as it was.
void require_refused(MachinePair& pair, const KvSequence& sequence, ErrorCode code,
                     const std::string& word) {
  REQUIRE(pair.sender.machine.state() == HandoffSender::State::kFailed);
  REQUIRE(pair.receiver.machine.state() == HandoffReceiver::State::kFailed);
  CHECK(pair.receiver.machine.error(0).code == code);
  CHECK(pair.sender.machine.error().code == code);
  INFO(pair.receiver.machine.error(0).message);
  INFO(pair.sender.machine.error().message);
  CHECK(pair.receiver.machine.error(0).message.find(word) != std::string::npos);
  CHECK(pair.sender.machine.error().message.find(word) != std::string::npos);
  CHECK(sequence.length() == 0);
  CHECK(sequence.pool()->free_blocks() == sequence.pool()->capacity_blocks());
}

}  // namespace

TEST_CASE("a cache is handed over, at every length around the block sizes") {
  for (const std::uint32_t tokens : {1u, 2u, 31u, 32u, 33u, 255u, 256u, 257u, 513u}) {
    const auto sequence = empty_sequence(kGeometry);
    MachinePair pair(make_offer(kGeometry, tokens), kSource, sequence);
    pair.hand_over();
    require_committed(pair, *sequence, tokens);
    CHECK(pair.receiver.machine.blocks_received() == 3 * 2 * ((tokens + 255) / 256));
    CHECK(pair.sender.machine.blocks_sent() == pair.receiver.machine.blocks_received());
    CHECK(pair.sender.machine.payload_bytes_sent() ==
          pair.receiver.machine.payload_bytes_received());
  }
}

TEST_CASE("chunks published before and after the answer, in any order") {
  const auto sequence = empty_sequence(kGeometry);
  MachinePair pair(make_offer(kGeometry, 100), kSource, sequence);
  HandoffSender& sender = pair.sender.machine;
  REQUIRE(sender.publish(2, 40, 100).ok());
  REQUIRE(sender.publish(0, 0, 1).ok());
  pair.run();
  CHECK(sender.state() == HandoffSender::State::kStreaming);
  for (const std::uint32_t layer : {1u, 0u, 2u}) {
    for (std::uint32_t at = layer == 0 ? 1 : 0; at < (layer == 2 ? 40 : 100); at += 13) {
      REQUIRE(sender.publish(layer, at, std::min(at + 13, layer == 2 ? 40u : 100u)).ok());
      pair.run();
    }
  }
  require_committed(pair, *sequence, 100);
}

TEST_CASE("only what was declared may be published, and once") {
  const auto sequence = empty_sequence(kGeometry);
  wire::Offer offer = make_offer(kGeometry, 100);
  MachinePair pair(offer, kSource, sequence);
  HandoffSender& sender = pair.sender.machine;
  REQUIRE(sender.publish(0, 10, 20).ok());
  const auto refused = [&](std::uint32_t layer, std::uint32_t begin, std::uint32_t end) {
    const Status status = sender.publish(layer, begin, end);
    return !status.ok() && status.error().code == ErrorCode::kInvalidArgument;
  };
  CHECK(refused(0, 19, 21));
  CHECK(refused(0, 0, 100));
  CHECK(refused(3, 0, 1));
  CHECK(refused(0, 20, 20));
  CHECK(refused(0, 99, 101));
  CHECK(refused(0, 30, 25));
  CHECK(sender.publish(0, 20, 100).ok());
  CHECK_FALSE(sender.send_first_token(first_token()).ok());  // no decode order
}

TEST_CASE("the first token overtakes the blocks and is needed for the commit") {
  const auto sequence = empty_sequence(kGeometry);
  MachinePair pair(decode_offer(300), kSource, sequence);
  std::vector<wire::MessageType> order;
  pair.filter = [&](const wire::Frame& frame, bool from_sender) {
    if (from_sender) order.push_back(frame.header.type);
    return true;
  };
  publish_all(pair.sender.machine, decode_offer(300), 1);
  while (order.size() < 3) pair.step();
  REQUIRE(pair.sender.machine.send_first_token(first_token()).ok());
  CHECK_FALSE(pair.sender.machine.send_first_token(first_token()).ok());
  pair.run();
  require_committed(pair, *sequence, 300);
  REQUIRE(order.size() == 1 + 12 + 1 + 1);
  CHECK(order[0] == wire::MessageType::kOffer);
  CHECK(order[3] == wire::MessageType::kFirstToken);
  CHECK(order.back() == wire::MessageType::kEnd);
  REQUIRE(pair.receiver.first_tokens.size() == 1);
  CHECK(pair.receiver.first_tokens[0].token == 42);
}

TEST_CASE("nothing is committed before the application has taken the first token") {
  for (const bool refuses : {false, true}) {
    const auto sequence = empty_sequence(kGeometry);
    MachinePair pair(decode_offer(40), kSource, sequence);
    HandoffReceiver& receiver = pair.receiver.machine;
    pair.receiver.holds_first_token = true;
    publish_all(pair.sender.machine, decode_offer(40), 1);
    REQUIRE(pair.sender.machine.send_first_token(first_token()).ok());
    pair.run();
    REQUIRE(receiver.take_first_token());
    pair.run();
    CHECK(pair.sender.machine.state() == HandoffSender::State::kEnding);
    CHECK(receiver.state() == HandoffReceiver::State::kReceiving);
    CHECK(sequence->length() == 0);
    if (refuses) {
      receiver.first_token_refused(Error(ErrorCode::kMismatch, "an unlikely token"));
      pair.run();
      require_refused(pair, *sequence, ErrorCode::kMismatch, "an unlikely token");
    } else {
      receiver.first_token_taken();
      pair.run();
      require_committed(pair, *sequence, 40);
    }
  }
}

TEST_CASE("token ids that the model does not have are refused, and named") {
  const std::uint32_t vocab = handoff_identity().vocab;
  for (const TokenId id : {vocab, vocab + 1, TokenId{0x7fffffff}}) {
    const auto sequence = empty_sequence(kGeometry);
    wire::Offer offer = make_offer(kGeometry, 40);
    offer.tokens[39] = id;
    MachinePair pair(offer, kSource, sequence);
    pair.hand_over();
    require_refused(pair, *sequence, ErrorCode::kMalformed,
                    "OFFER.tokens[39] is id " + std::to_string(id) + "; the model has 100 tokens");
  }
  struct Case {
    const char* word;
    void (*change)(wire::FirstToken&);
  };
  for (const Case& c :
       {Case{"FIRST_TOKEN.token is id 100;", [](wire::FirstToken& t) { t.token = 100; }},
        Case{"FIRST_TOKEN.top[1] is id 101;", [](wire::FirstToken& t) {
               t.top = {{99, 1.0f}, {101, 0.5f}};
             }}}) {
    const auto sequence = empty_sequence(kGeometry);
    MachinePair pair(decode_offer(40), kSource, sequence);
    wire::FirstToken token = first_token();
    c.change(token);
    REQUIRE(pair.sender.machine.send_first_token(token).ok());
    pair.hand_over();
    require_refused(pair, *sequence, ErrorCode::kMalformed, c.word);
    CHECK(pair.receiver.first_tokens.empty());
  }
  const auto sequence = empty_sequence(kGeometry);
  wire::Offer offer = decode_offer(40);
  offer.tokens[0] = vocab - 1;
  MachinePair pair(offer, kSource, sequence);
  wire::FirstToken last = first_token();
  last.token = vocab - 1;
  REQUIRE(pair.sender.machine.send_first_token(last).ok());
  pair.hand_over();
  CHECK(pair.receiver.machine.state() == HandoffReceiver::State::kCommitted);
}

TEST_CASE("an offer in the middle of a hand-off is refused whatever its id, and not dropped") {
  for (const bool to_receiver : {true, false}) {
    for (const std::uint64_t id : {std::uint64_t{1}, std::uint64_t{7}}) {
      const auto sequence = empty_sequence(kGeometry);
      MachinePair pair(make_offer(kGeometry, 40), kSource, sequence);
      publish_all(pair.sender.machine, make_offer(kGeometry, 40), 1);
      while (pair.receiver.machine.state() != HandoffReceiver::State::kReceiving)
        REQUIRE(pair.step());
      const wire::Frame second =
          to_frame(outgoing(wire::MessageType::kOffer, {id, 2, 1}, make_offer(kGeometry, 40)));
      if (to_receiver) {
        pair.receiver.machine.on_frame(0, second, pair.now);
      } else {
        pair.sender.machine.on_frame(second, pair.now);
      }
      pair.run();
      require_refused(pair, *sequence, ErrorCode::kProtocol, "OFFER is not a message to the");
    }
  }
}

TEST_CASE("without the first token that a decode order needs there is no end") {
  const auto sequence = empty_sequence(kGeometry);
  MachinePair pair(decode_offer(40), kSource, sequence);
  pair.hand_over();
  CHECK(pair.sender.machine.state() == HandoffSender::State::kStreaming);
  CHECK(sequence->length() == 0);
}

TEST_CASE("an offer of another model is refused, and the field that differs is named") {
  struct Case {
    const char* word;
    void (*change)(ModelIdentity&);
  };
  for (const Case& c :
       {Case{"tokenizer", [](ModelIdentity& id) { id.tokenizer ^= 1; }},
        Case{"norms", [](ModelIdentity& id) { id.norms ^= 1; }},
        Case{"rope.inverse_frequency[2]",
             [](ModelIdentity& id) { id.rope.inverse_frequency[2] *= 2; }},
        Case{"layers", [](ModelIdentity& id) { id.layers = 4; }},
        Case{"heads", [](ModelIdentity& id) { id.heads = 8; }},
        Case{"architecture", [](ModelIdentity& id) { id.architecture = "qwen3"; }}}) {
    INFO(c.word);
    const auto sequence = empty_sequence(kGeometry);
    ModelIdentity other = handoff_identity();
    c.change(other);
    MachinePair pair(make_offer(kGeometry, 40), kSource, sequence, {}, {}, {}, other);
    pair.hand_over();
    require_refused(pair, *sequence, ErrorCode::kMismatch, c.word);
  }
}

TEST_CASE("an offer whose cache has another shape is refused") {
  struct Case {
    const char* word;
    void (*change)(KvGeometry&);
  };
  for (const Case& c :
       {Case{"layers", [](KvGeometry& g) { g.layers = 2; }},
        Case{"kv_heads", [](KvGeometry& g) { g.kv_heads = 1; }},
        Case{"head_dim", [](KvGeometry& g) { g.head_dim = 16; }},
        Case{"first layer", [](KvGeometry& g) { g.first_layer = 1; }},
        Case{"rope.layout", [](KvGeometry& g) { g.rope.layout = RopeLayout::kSplitHalves; }},
        Case{"rope.inverse_frequency[1]",
             [](KvGeometry& g) { g.rope.inverse_frequency[1] = 0.3f; }},
        Case{"rope.attention_scale", [](KvGeometry& g) { g.rope.attention_scale = 1.5f; }}}) {
    INFO(c.word);
    KvGeometry other = kGeometry;
    c.change(other);
    const auto sequence = empty_sequence(other);
    MachinePair pair(make_offer(kGeometry, 40), kSource, sequence);
    pair.hand_over();
    require_refused(pair, *sequence, ErrorCode::kMismatch, c.word);
  }
}

TEST_CASE("a receiver with another element type takes the cache") {
  KvGeometry wide = kGeometry;
  wide.type = ElementType::kF32;
  const auto sequence = empty_sequence(wide);
  MachinePair pair(make_offer(kGeometry, 40), kSource, sequence);
  pair.hand_over();
  REQUIRE(pair.receiver.machine.state() == HandoffReceiver::State::kCommitted);
  std::vector<std::uint8_t> row(wide.row_bytes());
  REQUIRE(sequence->read(KvRange{2, Plane::kValue, 39, 40}, sequence->generation(), row).ok());
  CHECK(row == known_row(wide, 2, Plane::kValue, 39));
}

TEST_CASE("a full pool refuses the offer") {
  const auto sequence = empty_sequence(kGeometry, 2);
  MachinePair pair(make_offer(kGeometry, 100), kSource, sequence);
  pair.hand_over();
  require_refused(pair, *sequence, ErrorCode::kResourceExhausted, "pool");
}

TEST_CASE("a prefix that the receiver holds does not travel") {
  const auto sequence = empty_sequence(kGeometry);
  {
    MachinePair pair(make_offer(kGeometry, 70), kSource, sequence);
    pair.hand_over();
    require_committed(pair, *sequence, 70);
  }
  HandoffTerms terms;
  terms.held_prefix = terms.base_length = 70;
  terms.generation = sequence->generation();
  MachinePair pair(make_offer(kGeometry, 100), kSource, sequence, {}, {}, terms);
  pair.filter = [](const wire::Frame& frame, bool) {
    if (frame.header.type == wire::MessageType::kBlock)
      CHECK(wire::parse_block(frame.payload)->begin >= 70);
    return true;
  };
  pair.hand_over();
  require_committed(pair, *sequence, 100);
}

TEST_CASE("a prefix that is the whole offer leaves nothing to send") {
  const auto sequence = empty_sequence(kGeometry);
  MachinePair whole(make_offer(kGeometry, 50), kSource, sequence);
  whole.hand_over();
  HandoffTerms terms;
  terms.held_prefix = terms.base_length = 50;
  terms.generation = sequence->generation();
  MachinePair pair(make_offer(kGeometry, 50), kSource, sequence, {}, {}, terms);
  pair.run();
  require_committed(pair, *sequence, 50);
  CHECK(pair.sender.machine.blocks_sent() == 0);
}

TEST_CASE("a replaced range travels and replaces") {
  const auto sequence = empty_sequence(kGeometry);
  const KnownSource drifted(kGeometry, 1);
  MachinePair before(make_offer(kGeometry, 80), drifted, sequence);
  before.hand_over();
  REQUIRE(sequence->length() == 80);

  wire::Offer offer = make_offer(kGeometry, 100);
  offer.base_generation = sequence->generation();
  offer.base_length = 80;
  offer.replace_begin = 40;
  offer.coverage[0].begin = 40;
  HandoffTerms terms;
  terms.base_length = 80;
  terms.generation = sequence->generation();
  MachinePair pair(offer, kSource, sequence, {}, {}, terms);
  pair.hand_over();
  REQUIRE(pair.sender.machine.state() == HandoffSender::State::kCommitted);
  CHECK(holds_known_rows(*sequence, 0, 40, 1));
  CHECK(holds_known_rows(*sequence, 40, 100, 0));
}

TEST_CASE("the sender leaves out what the answer says was verified before") {
  const auto sequence = empty_sequence(kGeometry);
  MachinePair pair(make_offer(kGeometry, 100), kSource, sequence);
  std::uint64_t rows = 0;
  pair.filter = [&](wire::Frame& frame, bool from_sender) {
    if (!from_sender && frame.header.type == wire::MessageType::kAccept) {
      auto accept = wire::parse_accept(frame.payload).value();
      accept.resume = {{0, Plane::kKey, 0, 100}, {1, Plane::kValue, 10, 60}};
      frame.payload.clear();
      REQUIRE(wire::serialize(accept, frame.payload).ok());
    }
    if (frame.header.type == wire::MessageType::kBlock) {
      const auto block = wire::parse_block(frame.payload).value();
      CHECK_FALSE((block.layer == 0 && block.plane == Plane::kKey));
      if (block.layer == 1 && block.plane == Plane::kValue)
        CHECK((block.begin + block.tokens <= 10 || block.begin >= 60));
      rows += block.tokens;
    }
    return true;
  };
  pair.hand_over();
  CHECK(rows == 600 - 150);
  // This receiver had nothing from before, and says so.
  CHECK(pair.receiver.machine.error(0).code == ErrorCode::kIncomplete);
  CHECK(sequence->length() == 0);
}

TEST_CASE("credit is never exceeded, and bounds what waits at either end") {
  for (const std::uint64_t credit :
       {std::uint64_t{700}, std::uint64_t{3000}, std::uint64_t{20000}}) {
    const auto sequence = empty_sequence(kGeometry);
    ReceiverOptions options;
    options.credit = credit;
    SenderOptions sender_options;
    sender_options.pending_bytes = 4000;
    MachinePair pair(make_offer(kGeometry, 513), kSource, sequence, options, sender_options);
    std::uint64_t granted = 0;
    std::uint64_t sent = 0;
    pair.filter = [&](const wire::Frame& frame, bool) {
      if (frame.header.type == wire::MessageType::kAccept)
        granted = wire::parse_accept(frame.payload)->credit;
      if (frame.header.type == wire::MessageType::kCredit)
        granted = wire::parse_credit(frame.payload)->total;
      if (frame.header.type == wire::MessageType::kBlock) sent += frame.payload.size();
      CHECK(sent <= granted);
      return true;
    };
    pair.hand_over();
    require_committed(pair, *sequence, 513);
    CHECK(granted <= sent + credit);
  }
}

TEST_CASE("a receiver whose window cannot hold one token is refused by the sender") {
  const auto sequence = empty_sequence(kGeometry);
  ReceiverOptions options;
  options.credit = 20;
  MachinePair pair(make_offer(kGeometry, 40), kSource, sequence, options);
  pair.hand_over();
  require_refused(pair, *sequence, ErrorCode::kResourceExhausted, "one token takes");
}

TEST_CASE("an offer that the source cannot keep is not made") {
  SenderOptions options;
  options.address = {1, 1, 1};
  const TimePoint now{};
  const auto code_of = [&](const wire::Offer& offer, const KvGeometry& geometry) {
    const auto sender = HandoffSender::create(offer, geometry, options, now);
    return sender.ok() ? std::string("made") : std::string(name_of(sender.error().code));
  };
  const wire::Offer good = make_offer(kGeometry, 40);
  CHECK(code_of(good, kGeometry) == "made");
  KvGeometry other = kGeometry;
  other.head_dim = 16;
  CHECK(code_of(good, other) == "invalid_argument");
  other = kGeometry;
  other.type = ElementType::kF32;
  CHECK(code_of(good, other) == "invalid_argument");
  other = kGeometry;
  other.first_layer = 1;
  other.layers = 2;
  CHECK(code_of(good, other) == "invalid_argument");
  wire::Offer hole = good;
  hole.coverage[0].end = 39;
  CHECK(code_of(hole, kGeometry) == "invalid_argument");
  options.address.source = 2;
  CHECK(code_of(good, kGeometry) == "invalid_argument");
  options.address.source = 1;
  options.max_payload = 100;
  CHECK(code_of(good, kGeometry) == "resource_exhausted");
}
