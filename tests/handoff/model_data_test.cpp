// Codebooks and predictors that travel: once, checked, and kept.
#include <algorithm>
#include <functional>
#include <string>

#include "coder_fixture.hpp"
#include "sessions.hpp"

using namespace kvferry;
using namespace kvferry::testing;

namespace {

constexpr std::uint32_t kTokens = 300;

std::shared_ptr<ModelDataStore> new_store() {
  return std::make_shared<ModelDataStore>(handoff_identity());
}

struct HandedOver {
  HandoffReport sender;
  HandoffReport receiver;
  std::vector<std::uint8_t> rows;  // of the whole cache
  std::uint64_t sent_behind = 0;   // bytes of the predictor, after the commit
};

std::vector<std::uint8_t> all_rows(const KvSequence& sequence) {
  const KvGeometry geometry = handoff_geometry();
  std::vector<std::uint8_t> all;
  for (std::uint32_t layer = 0; layer < geometry.layers; ++layer) {
    for (const Plane plane : {Plane::kKey, Plane::kValue}) {
      std::vector<std::uint8_t> rows(kTokens * geometry.row_bytes());
      REQUIRE(sequence.read({layer, plane, 0, kTokens}, sequence.generation(), rows).ok());
      all.insert(all.end(), rows.begin(), rows.end());
    }
  }
  return all;
}

struct Way {
  SendOptions send;
  ReceiveOptions receive;
  Profile profile = Profile::kLow;
  std::uint32_t chunk = kTokens;
};

// Hands kTokens over, and the predictor behind if it is asked for.
HandedOver hand_over(const Way& way) {
  const KvGeometry geometry = handoff_geometry();
  const KnownSource source(geometry);
  Link link;
  const auto sequence = empty_sequence(geometry);
  SequenceHandler handler(sequence);
  Receiving receiving(link.receiver, handler, way.receive);
  wire::Offer offer = make_offer(geometry, kTokens);
  offer.profile = static_cast<std::uint8_t>(way.profile);
  auto session = SendSession::start(link.sender, source, offer, way.send).value();
  for (std::uint32_t begin = 0; begin < kTokens; begin += way.chunk) {
    for (std::uint32_t layer = 0; layer < geometry.layers; ++layer)
      REQUIRE(session->publish(layer, begin, std::min(kTokens, begin + way.chunk)).ok());
  }
  const auto sent = session->finish();
  REQUIRE(sent.ok());
  const auto received = receiving.outcome();
  REQUIRE(received.ok());
  HandedOver handed{sent->report, received->report, all_rows(*sequence), 0};
  if (received->predictor_fetch != nullptr) {
    handed.sent_behind = session->send_predictor(std::chrono::seconds(5)).value();
    bool last = false;
    while (handed.sent_behind != 0 && !last) {
      const auto frame = link.receiver.receive(late());
      REQUIRE(frame.ok());
      REQUIRE(frame->header.type == wire::MessageType::kModelData);
      last = received->predictor_fetch->on_data(frame->payload).value();
    }
  }
  return handed;
}

}  // namespace

TEST_CASE("a codebook travels once, and the predictor behind the first hand-off") {
  const Coder coder = test_coder();
  Way both;
  both.send.codebook = both.receive.codebook = coder.codebook;
  const HandedOver coded = hand_over(both);
  both.send.predictor = both.receive.predictor = coder.predictor;
  const HandedOver predicted = hand_over(both);
  REQUIRE(predicted.sender.used_predictor);
  REQUIRE(predicted.sender.payload_bytes != coded.sender.payload_bytes);

  Way way;
  way.send.codebook = coder.codebook;
  way.send.predictor = coder.predictor;
  way.receive.store = new_store();
  const HandedOver first = hand_over(way);
  CHECK(first.rows == coded.rows);
  CHECK(first.sender.used_codebook);
  CHECK_FALSE(first.sender.used_predictor);
  CHECK(first.sender.model_data_bytes == coder.codebook->bytes().size());
  CHECK(first.receiver.model_data_bytes == coder.codebook->bytes().size());
  CHECK(first.sent_behind == coder.predictor->bytes().size());
  const HandedOver second = hand_over(way);
  CHECK(second.rows == predicted.rows);
  CHECK(second.sender.payload_bytes == predicted.sender.payload_bytes);
  CHECK(second.sender.model_data_bytes == 0);
  CHECK(second.sent_behind == 0);

  // Ahead of the blocks.
  way.receive.store = new_store();
  way.send.predictor_ahead = true;
  for (const bool is_first : {true, false}) {
    const HandedOver handed = hand_over(way);
    CHECK(handed.rows == predicted.rows);
    CHECK(handed.sender.used_predictor);
    CHECK(handed.receiver.used_predictor);
    const std::size_t all = coder.codebook->bytes().size() + coder.predictor->bytes().size();
    CHECK(handed.sender.model_data_bytes == (is_first ? all : 0));
    CHECK(handed.sent_behind == 0);
  }

  // One that is too large is not asked for.
  way.receive.store = new_store();
  way.receive.max_predictor_bytes = coder.predictor->bytes().size() - 1;
  const HandedOver without = hand_over(way);
  CHECK(without.rows == coded.rows);
  CHECK(without.sender.model_data_bytes == coder.codebook->bytes().size());
}

TEST_CASE("profiles that need no codebook ask for none") {
  const Coder coder = test_coder();
  for (const Profile profile : {Profile::kRaw, Profile::kLossless, Profile::kQ8, Profile::kQ4H}) {
    Way way;
    way.profile = profile;
    way.send.codebook = coder.codebook;
    way.send.predictor = coder.predictor;
    way.receive.store = new_store();
    const HandedOver handed = hand_over(way);
    CHECK(handed.sender.model_data_bytes == 0);
    CHECK_FALSE(handed.sender.used_codebook);
    CHECK(handed.sent_behind == 0);
  }
}

TEST_CASE("predicted hand-offs are the same with any number of threads and sizes of chunks") {
  const Coder coder = test_coder();
  for (const std::uint32_t chunk : {300u, 70u, 16u}) {
    Way way;
    way.chunk = chunk;
    way.send.codebook = way.receive.codebook = coder.codebook;
    way.send.predictor = way.receive.predictor = coder.predictor;
    const HandedOver one = hand_over(way);
    way.send.encode_threads = way.receive.decode_threads = 4;
    // Little credit, so that blocks wait everywhere.
    way.receive.credit = 40000;
    for (int round = 0; round < 5; ++round) {
      CAPTURE(chunk, round);
      const HandedOver many = hand_over(way);
      CHECK(many.rows == one.rows);
    }
  }
}

TEST_CASE("a source that holds some of the layers predicts what it can") {
  const Coder coder = test_coder();
  KvGeometry upper = handoff_geometry();
  upper.first_layer = 1;
  upper.layers = 2;
  const KnownSource lower_source(handoff_geometry());
  const KnownSource upper_source(upper);
  Link a;
  Link b;
  const auto sequence = empty_sequence(handoff_geometry());
  SequenceHandler handler(sequence);
  ReceiveOptions receive;
  receive.store = new_store();
  ReceiveSession session(handoff_identity(), handler, receive);
  const auto serve = [&session](Link& link) {
    const wire::Frame offer = link.receiver.receive(late()).value();
    return session.serve(link.receiver, offer);
  };
  wire::Offer offer = make_offer(handoff_geometry(), 40);
  offer.profile = static_cast<std::uint8_t>(Profile::kLow);
  offer.coverage = {{1, 0, 1, 0, 40}, {2, 1, 3, 0, 40}};
  const auto send = [&](Link& link, const KvSource& source, std::uint16_t number) {
    SendOptions options;
    options.source = number;
    options.codebook = coder.codebook;
    options.predictor = coder.predictor;
    options.predictor_ahead = true;
    auto sending = SendSession::start(link.sender, source, offer, options).value();
    for (std::uint32_t layer = number == 1 ? 0 : 1; layer < (number == 1 ? 1u : 3u); ++layer) {
      const Status published = sending->publish(layer, 0, 40);
      if (!published.ok()) return Result<HandoffReceipt>(published.error());
    }
    return sending->finish();
  };
  std::vector<Result<HandoffReceipt>> outcomes(4, Error(ErrorCode::kInternal, "did not run"));
  std::vector<std::thread> threads;
  threads.emplace_back([&] { outcomes[0] = serve(a); });
  threads.emplace_back([&] { outcomes[1] = serve(b); });
  threads.emplace_back([&] { outcomes[2] = send(a, lower_source, 1); });
  threads.emplace_back([&] { outcomes[3] = send(b, upper_source, 2); });
  for (std::thread& thread : threads) thread.join();
  for (const auto& outcome : outcomes) {
    INFO((outcome.ok() ? "" : outcome.error().message));
    CHECK(outcome.ok());
  }
  CHECK(sequence->length() == 40);
  CHECK(receive.store->codebook(coder.codebook->id()) != nullptr);
  CHECK(receive.store->predictor(coder.predictor->id()) != nullptr);
}

namespace {

using Change = std::function<void(std::vector<wire::ModelData>& data)>;

// Offers, sends the MODEL_DATA that `change` leaves, then a BLOCK. What the receiver answers.
Error refusal_of(const Coder& offered, const std::vector<std::uint8_t>& codebook_bytes,
                 const std::vector<std::uint8_t>& predictor_bytes, const Change& change) {
  const KvGeometry geometry = handoff_geometry();
  Link link;
  const auto sequence = empty_sequence(geometry);
  SequenceHandler handler(sequence);
  ReceiveOptions receive;
  receive.store = new_store();
  Receiving receiving(link.receiver, handler, receive);
  wire::Offer offer = make_offer(geometry, 4);
  offer.profile = static_cast<std::uint8_t>(Profile::kLow);
  offer.codebook = offered.codebook->id();
  offer.codebook_bytes = static_cast<std::uint32_t>(offered.codebook->bytes().size());
  offer.predictor = offered.predictor->id();
  offer.predictor_bytes = static_cast<std::uint32_t>(offered.predictor->bytes().size());
  const wire::FrameAddress address{1, 1, 1};
  REQUIRE(link.sender.send(wire::MessageType::kOffer, offer, late(), address).ok());
  const wire::Frame accept = link.sender.receive(late()).value();
  REQUIRE(accept.header.type == wire::MessageType::kAccept);
  const wire::Accept answer = wire::parse_accept(accept.payload).value();
  REQUIRE(answer.codebook == wire::ModelDataAnswer::kWants);
  REQUIRE(answer.predictor == wire::ModelDataAnswer::kWants);

  std::vector<wire::ModelData> data(2);
  data[0].id = offer.codebook;
  data[0].total = offer.codebook_bytes;
  data[0].bytes = codebook_bytes;
  data[1].kind = wire::ModelDataKind::kPredictor;
  data[1].id = offer.predictor;
  data[1].total = offer.predictor_bytes;
  data[1].bytes = predictor_bytes;
  change(data);
  for (const wire::ModelData& piece : data) {
    if (!link.sender.send(wire::MessageType::kModelData, piece, late(), address).ok()) break;
  }
  const KvRange range{0, Plane::kKey, 0, 4};
  std::vector<std::uint8_t> rows(4 * geometry.row_bytes());
  std::vector<std::uint8_t> coded(maximum_encoded_size(geometry, 4));
  BlockEncoder encoder(geometry, offered.codebook);
  coded.resize(encoder.encode({Profile::kLow, range}, rows, coded).value().total());
  const OutgoingFrame block =
      outgoing_block(address, range, offer.profile, std::move(coded)).value();
  // The receiver may have closed already.
  static_cast<void>(link.sender.send_frame(block.header, block.head, block.tail, late()));
  const wire::Frame told = link.sender.receive(late()).value();
  REQUIRE(told.header.type == wire::MessageType::kError);
  const auto outcome = receiving.outcome();
  REQUIRE_FALSE(outcome.ok());
  CHECK(wire::parse_error(told.payload).value().code == outcome.error().code);
  CHECK(sequence->length() == 0);
  return outcome.error();
}

}  // namespace

TEST_CASE("model data that is not what was offered is refused by name, and nothing is committed") {
  const Coder coder = test_coder();
  const Coder other = test_coder(2);
  const std::vector<std::uint8_t>& codebook = coder.codebook->bytes();
  const std::vector<std::uint8_t>& predictor = coder.predictor->bytes();
  const auto refused = [&](const char* what, ErrorCode code, const char* says,
                           const Change& change) {
    const Error error = refusal_of(coder, codebook, predictor, change);
    INFO(what << ": " << error.message);
    CHECK(error.code == code);
    CHECK(error.message.find(says) != std::string::npos);
  };
  using Data = std::vector<wire::ModelData>;
  refused("truncated", ErrorCode::kIncomplete, "codebook", [](Data& d) {
    d.resize(1);
    d[0].bytes = d[0].bytes.first(d[0].bytes.size() - 1);
  });
  refused("truncated predictor", ErrorCode::kIncomplete, "predictor",
          [](Data& d) { d[1].bytes = d[1].bytes.first(100); });
  refused("oversized", ErrorCode::kResourceExhausted, "codebook",
          [](Data& d) { d[0].total = 0xffffffffu; });
  refused("oversized predictor", ErrorCode::kResourceExhausted, "predictor",
          [](Data& d) { ++d[1].total; });
  refused("another id", ErrorCode::kMismatch, "offered codebook", [](Data& d) { d[0].id ^= 1; });
  refused("out of order", ErrorCode::kProtocol, "is next", [](Data& d) {
    d[0].offset = 1;
    d[0].bytes = d[0].bytes.subspan(1);
  });
  refused("twice", ErrorCode::kProtocol, "is next", [](Data& d) { d.insert(d.begin() + 1, d[0]); });
  refused("predictor first", ErrorCode::kProtocol, "before its codebook",
          [](Data& d) { std::swap(d[0], d[1]); });

  const auto changed = [&](std::vector<std::uint8_t> first, std::vector<std::uint8_t> second) {
    return refusal_of(coder, first, second, [](Data&) {});
  };
  for (const std::size_t at :
       {std::size_t{0}, std::size_t{4}, std::size_t{16}, std::size_t{40}, codebook.size() - 1}) {
    auto corrupt = codebook;
    corrupt[at] = static_cast<std::uint8_t>(corrupt[at] ^ 0x10);
    INFO(at);
    CHECK_FALSE(changed(corrupt, predictor).message.empty());
  }
  auto corrupt = predictor;
  corrupt[predictor.size() / 2] = static_cast<std::uint8_t>(corrupt[predictor.size() / 2] ^ 1);
  CHECK(changed(codebook, corrupt).code == ErrorCode::kChecksum);
  // Sound ones of the same size, which are not those that were offered.
  REQUIRE(other.codebook->bytes().size() == codebook.size());
  CHECK(changed(other.codebook->bytes(), predictor).code == ErrorCode::kChecksum);
  CHECK(changed(codebook, other.predictor->bytes()).code == ErrorCode::kChecksum);
  // What was offered, but of another model, and a predictor of another codebook.
  Coder foreign = coder;
  foreign.codebook = Codebook::create(99, coder.codebook->kv_heads(), coder.codebook->head_dim(),
                                      coder.codebook->layers())
                         .value();
  CHECK(refusal_of(foreign, foreign.codebook->bytes(), predictor, [](Data&) {}).code ==
        ErrorCode::kMismatch);
  Coder mixed = coder;
  mixed.predictor = other.predictor;
  CHECK(refusal_of(mixed, codebook, other.predictor->bytes(), [](Data&) {}).code ==
        ErrorCode::kMismatch);
}

TEST_CASE("a block that needs a codebook that was not sent is refused") {
  const Coder coder = test_coder();
  const Error error = refusal_of(coder, coder.codebook->bytes(), coder.predictor->bytes(),
                                 [](std::vector<wire::ModelData>& d) { d.clear(); });
  CHECK(error.code == ErrorCode::kUnsupported);
}
