// Messages to bytes and back: round trips, what serialize() refuses, cuts at every byte.
#include <limits>
#include <random>

#include <catch2/catch.hpp>

#include "any_message.hpp"
#include "example_messages.hpp"

using namespace kvferry;
using namespace kvferry::wire;
using namespace kvferry_test;

namespace {

using ByteVector = std::vector<std::uint8_t>;

struct Example {
  MessageType type;
  AnyMessage message;
};

std::vector<Example> examples() {
  static const ByteVector coded = {9, 8, 7};
  return {{MessageType::kHello, example_hello()},
          {MessageType::kPing, Ping{1, 2}},
          {MessageType::kPong, Pong{1, 2, 3}},
          {MessageType::kError, ErrorMessage{ErrorCode::kTimeout, "late"}},
          {MessageType::kGoodbye, Goodbye()},
          {MessageType::kOffer, example_offer()},
          {MessageType::kAccept, example_accept()},
          {MessageType::kFirstToken, example_first_token()},
          {MessageType::kBlock, example_block(coded)},
          {MessageType::kCredit, Credit{5}},
          {MessageType::kEnd, End{1, 2, 3}},
          {MessageType::kCommitted, Committed{1, 2, 3}},
          {MessageType::kCancel, Cancel{ErrorCode::kCancelled, "enough"}},
          {MessageType::kModelData, example_model_data(coded)},
          {MessageType::kGenerate, example_generate()},
          {MessageType::kTicket, Ticket{"tcp://[::1]:9", example_ticket(), 7}},
          {MessageType::kAttach, Attach{example_ticket()}},
          {MessageType::kToken, Token{2, 3, "x"}},
          {MessageType::kDone, example_done()}};
}

template <typename Message>
void check_refused(const Message& message, const std::string& field) {
  ByteVector out = {1, 2, 3};
  const Status status = serialize(message, out);
  REQUIRE_FALSE(status.ok());
  CHECK(status.error().code == ErrorCode::kInvalidArgument);
  CHECK(status.error().message.find(field) != std::string::npos);
  CHECK(out == ByteVector{1, 2, 3});
}

}  // namespace

TEST_CASE("What is serialized parses and is serialized the same again") {
  for (const Example& example : examples()) {
    INFO(name_of(example.type));
    ByteVector bytes;
    REQUIRE(serialize_any(example.message, bytes).ok());
    const auto parsed = parse_any(example.type, bytes);
    REQUIRE(parsed.ok());
    CHECK(parsed->index() == example.message.index());
    ByteVector again;
    REQUIRE(serialize_any(*parsed, again).ok());
    CHECK(again == bytes);
  }
}

TEST_CASE("Fields arrive as they were sent") {
  ByteVector bytes;
  REQUIRE(serialize(example_offer(), bytes).ok());
  const Offer sent = example_offer();
  const auto got = parse_offer(bytes);
  REQUIRE(got.ok());
  CHECK(got->sequence == sent.sequence);
  CHECK(compare(got->identity, sent.identity).ok());
  CHECK(got->identity.fingerprint() == sent.identity.fingerprint());
  CHECK(got->rope == sent.rope);
  CHECK(got->type == sent.type);
  CHECK(got->provenance.path == "cpu");
  CHECK(got->provenance.position_offset == -8);
  CHECK(got->tokens == sent.tokens);
  CHECK(got->coverage.size() == 2);
  CHECK(got->coverage[1].first_layer == 2);
  REQUIRE(got->decode.has_value());
  CHECK(got->decode->ticket == example_ticket());
  CHECK(got->decode->sampler.seed == 42);
  CHECK(got->decode->stop == sent.decode->stop);

  const ByteVector coded = {5, 6};
  bytes.clear();
  REQUIRE(serialize(example_block(coded), bytes).ok());
  const auto block = parse_block(bytes);
  REQUIRE(block.ok());
  CHECK(block->layer == 2);
  CHECK(block->plane == Plane::kValue);
  CHECK(block->begin == 3);
  CHECK(block->tokens == 2);
  CHECK(block->coded.data() == bytes.data() + kBlockHeadBytes);
  CHECK(block->coded.size() == 2);
}

TEST_CASE("A block's head is the payload without the coded bytes") {
  const ByteVector coded = {5, 6, 7};
  ByteVector whole, head;
  REQUIRE(serialize(example_block(coded), whole).ok());
  REQUIRE(serialize_head(example_block(coded), head).ok());
  CHECK(head.size() == kBlockHeadBytes);
  head.insert(head.end(), coded.begin(), coded.end());
  CHECK(head == whole);
}

TEST_CASE("A payload that is cut off or too long is refused, naming the place") {
  for (const Example& example : examples()) {
    INFO(name_of(example.type));
    ByteVector bytes;
    REQUIRE(serialize_any(example.message, bytes).ok());
    // Coded bytes, and pieces of model data, have no length.
    const bool is_block = example.type == MessageType::kBlock;
    const bool open_end = is_block || example.type == MessageType::kModelData;
    const std::size_t least =
        open_end ? (is_block ? kBlockHeadBytes : kModelDataHeadBytes) + 1 : bytes.size();
    for (std::size_t size = 0; size < least; ++size) {
      const auto parsed = parse_any(example.type, Bytes(bytes).first(size));
      REQUIRE_FALSE(parsed.ok());
      CHECK(parsed.error().code == ErrorCode::kMalformed);
      CHECK(parsed.error().message.find(name_of(example.type)) == 0);
    }
    bytes.push_back(0);
    CHECK(parse_any(example.type, bytes).ok() == open_end);
  }
}

// Every accepted change of a byte must be visible in the message, or two payloads would mean the
// same.
TEST_CASE("Changed bytes are refused or come back as they are") {
  std::mt19937 random(4711);
  for (const Example& example : examples()) {
    INFO(name_of(example.type));
    ByteVector good;
    REQUIRE(serialize_any(example.message, good).ok());
    if (good.empty()) continue;
    for (int round = 0; round < 4000; ++round) {
      ByteVector bytes = good;
      for (int change = 0; change < 1 + round % 3; ++change) {
        bytes[random() % bytes.size()] =
            random() % 2 == 0 ? static_cast<std::uint8_t>(random()) : std::uint8_t{0xff};
      }
      const auto parsed = parse_any(example.type, bytes);
      if (!parsed.ok()) {
        REQUIRE(parsed.error().code == ErrorCode::kMalformed);
        continue;
      }
      ByteVector again;
      REQUIRE(serialize_any(*parsed, again).ok());
      REQUIRE(again == bytes);
    }
  }
}

TEST_CASE("A count that the payload cannot hold costs no memory") {
  ByteVector bytes;
  Generate m;
  m.token_ids = {1};
  REQUIRE(serialize(m, bytes).ok());
  bytes[4 + 2] = 0x10;  // 2^20 + 1 ids, above the cap
  CHECK(parse_generate(bytes).error().message.find("at most 1048576") != std::string::npos);
  bytes[4] = 0;  // 2^20 ids in a payload of less than 100 bytes
  CHECK(parse_generate(bytes).error().message.find("more than the rest") != std::string::npos);
}

TEST_CASE("serialize() refuses what a peer would refuse, and appends nothing") {
  Hello hello = example_hello();
  hello.agent = "two\nlines";
  check_refused(hello, "HELLO.agent");
  Offer offer = example_offer();
  offer.coverage.pop_back();
  check_refused(offer, "OFFER.coverage");
  offer = example_offer();
  offer.identity.architecture.clear();
  check_refused(offer, "OFFER.identity.architecture is empty; set ModelIdentity::architecture");
  offer = example_offer();
  offer.identity.norm_epsilon = std::numeric_limits<float>::infinity();
  check_refused(offer, "OFFER.identity.norm_epsilon");
  offer = example_offer();
  offer.decode->sampler.top_p = 1.5f;
  check_refused(offer, "OFFER.sampler.top_p");
  Accept accept = example_accept();
  std::swap(accept.resume[0], accept.resume[1]);
  check_refused(accept, "ACCEPT.resume");
  check_refused(Generate(), "GENERATE.text");
  check_refused(ErrorMessage{ErrorCode::kIo, std::string(5000, 'x')}, "ERROR.text");
  check_refused(Block(), "BLOCK.tokens");
  check_refused(Token{0, 1, std::string(32769, 'x')}, "TOKEN.text");
}

TEST_CASE("An error of any text becomes a message that serializes") {
  for (const std::string& text :
       {std::string(10000, 'x'), std::string("a\nb\xff\x1b[0m"), std::string()}) {
    const ErrorMessage message = to_message(Error(ErrorCode::kIo, text));
    ByteVector bytes;
    REQUIRE(serialize(message, bytes).ok());
    const auto parsed = parse_error(bytes);
    REQUIRE(parsed.ok());
    CHECK(parsed->code == ErrorCode::kIo);
    CHECK(parsed->text.size() <= kMaxErrorText);
  }
}

TEST_CASE("An error code that this version does not know arrives") {
  ByteVector bytes;
  REQUIRE(serialize(ErrorMessage{static_cast<ErrorCode>(4321), "later"}, bytes).ok());
  CHECK(static_cast<int>(parse_error(bytes)->code) == 4321);
}

TEST_CASE("The largest messages fit into a frame") {
  Offer offer = example_offer();
  offer.replace_begin = 0;
  offer.base_length = 0;
  offer.base_generation = 0;
  offer.tokens.assign(kMaxTokens, 5);
  offer.coverage.resize(1);
  offer.coverage[0] = {1, 0, 3, 0, kMaxTokens};
  ByteVector bytes;
  REQUIRE(serialize(offer, bytes).ok());
  CHECK(bytes.size() <= kMaxPayload);
  CHECK(parse_offer(bytes).ok());
  offer.tokens.push_back(5);
  check_refused(offer, "OFFER.tokens");

  Generate generate;
  generate.text.assign(kMaxText, 'x');
  bytes.clear();
  REQUIRE(serialize(generate, bytes).ok());
  CHECK(parse_generate(bytes).ok());
  generate.text.push_back('x');
  check_refused(generate, "GENERATE.text");
  generate.text.clear();
  generate.messages = {{"a", std::string(kMaxText, 'x')}, {"b", "y"}};
  check_refused(generate, "GENERATE.messages");
}
